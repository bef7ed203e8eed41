// The panel about rate limits: many presses at once, and what the edge says of those that are too many.

const TOO_MANY = 111; // the code of the protocol

/** Presses of one user, over all tabs and edges: they are publications to a channel with a limit of its own. */
export class Presses {
  #show;
  #counts = { taken: 0, refused: 0 };

  /** `show` gets {taken, refused, answer}. */
  constructor(show) {
    this.#show = show;
  }

  /** Press once by `publish(channel, data)`, which rejects with the SDK's {code, message}. */
  async press(user, publish) {
    try {
      await publish(`press:${user.replaceAll(/[^-\w]/g, "_") || "_"}`, { pressed: Date.now() });
      this.#count("taken", "taken");
    } catch ({ code, message }) {
      this.#count(code === TOO_MANY ? "refused" : "", `${code}: ${message}`);
    }
  }

  #count(kind, answer) {
    if (kind) this.#counts[kind] += 1;
    this.#show({ ...this.#counts, answer });
  }
}
