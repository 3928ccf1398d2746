import assert from "node:assert/strict";

export { assert };

export const ok = (what) => console.log("ok", what);

// refused wants an error that says the words.
export async function refused(what, words, call) {
  await assert.rejects(call, (failed) => {
    const said = `${failed.message} ${failed.errorCode ?? ""} ${failed.error ?? ""} ${failed.error_description ?? ""} ${failed.cause?.error_description ?? ""}`;
    assert.ok(said.includes(words), `${what}: ${words} wanted, got: ${said}`);
    return true;
  });
  ok(what);
}
