"""The HTTP edge: routes that say what they take and which noun answers; no rule and no SQL lives here."""
