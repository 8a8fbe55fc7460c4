// What several may ask for at the same moment, and must not be done twice at once.

/** Returns `work` as something that begins only when what was asked for before is over. */
export function inTurn(work) {
  let last = Promise.resolve();
  return () => {
    // That the one before failed was told to who asked for it.
    last = last.then(work, work);
    return last;
  };
}
