/** Two questions: is this meant, and what is the token. Native dialogs: they keep the focus and close on Escape. */

import { call, Problem } from "./api.js";
import { byId, say } from "./words.js";

/** Whether somebody said yes. `body` is a further element, `yes` the text of the button that does it. */
export function confirmed(title, text, { body = null, yes = "Yes" } = {}) {
  const dialog = byId("ask");
  say(byId("ask-title"), title);
  say(byId("ask-text"), text);
  byId("ask-body").replaceChildren(...(body ? [body] : []));
  say(byId("ask-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

let asking = null;

/** Ask for a token until the service takes one; several askers wait for the same answer. */
export function login() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

function ask() {
  const dialog = byId("login");
  say(byId("login-problem"), "");
  byId("token").value = "";
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
  return new Promise((resolve) => {
    byId("login-form").onsubmit = async (event) => {
      event.preventDefault();
      if (await accepted()) {
        dialog.close();
        resolve();
      }
    };
  });
}

async function accepted() {
  const field = byId("token");
  try {
    await call("POST", "/session", { token: field.value.trim() });
    field.value = "";
    return true;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const form = problem.status === 422 ? "This is no token: it has no spaces and only plain letters, digits and signs." : null;
    say(byId("login-problem"), form ?? `${problem.title}: ${problem.detail}`);
    field.select();
    return false;
  }
}
