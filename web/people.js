// Who is in a channel: the list that the mesh gives, kept up to date by the joins and leaves that follow.

const AGAIN = 2000; // ms

/** Holds clients by their id; `changed` is called with [{client, user}] after each change, or null where nothing is known. */
export class People {
  #clients = new Map();
  #gone = new Set(); // who left while the list was on its way
  #known = false;
  #asked = 0;
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Begin with nothing, and ask; `list` resolves to the SDK's {clients}. What comes meanwhile counts, too. */
  async ask(list) {
    this.forget();
    const asked = this.#asked;
    try {
      const { clients } = await list();
      if (asked !== this.#asked) return;
      for (const { client, user } of Object.values(clients)) if (!this.#gone.has(client)) this.#clients.set(client, user);
      this.#known = true;
      this.#tell();
    } catch ({ temporary }) {
      // the namespace keeps no presence, or this client may not ask: nothing is shown; or the service is away for now
      if (temporary) setTimeout(() => asked === this.#asked && this.ask(list), AGAIN);
    }
  }

  /** Show nothing; an answer that is still to come is not for what comes next. */
  forget() {
    this.#asked += 1;
    this.#clients.clear();
    this.#gone.clear();
    this.#known = false;
    this.#changed(null);
  }

  join({ client, user }) {
    this.#gone.delete(client);
    this.#clients.set(client, user);
    if (this.#known) this.#tell();
  }

  leave({ client }) {
    this.#clients.delete(client);
    if (this.#known) this.#tell();
    else this.#gone.add(client);
  }

  #tell() {
    this.#changed([...this.#clients].map(([client, user]) => ({ client, user })));
  }
}
