#!/bin/sh
# Makes deploy/secrets/ once: a password for Postgres, the URL that holds it, and one token for you. Never overwrites.
set -eu
umask 077
place="$(dirname "$0")/secrets"
if [ -e "$place" ]; then
    echo "$place is there already: nothing was changed. Delete it to begin anew (then Postgres' volume too)." >&2
    exit 1
fi
mkdir "$place"
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
password="$(random)"
token="$(random)"
digest="$(printf %s "$token" | sha256sum | cut -d' ' -f1)"
printf %s "$password" > "$place/postgres_password"
printf 'postgresql+asyncpg://reshelve:%s@postgres:5432/reshelve' "$password" > "$place/database_url"
printf '{"operator": "%s"}' "$digest" > "$place/auth_tokens"
# Containers read these files as other users; the folder itself lets nobody else in.
chmod 444 "$place"/*
echo "Your token, shown once: $token" >&2
