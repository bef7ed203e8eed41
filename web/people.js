// Who is in a channel: the list that the mesh gives, kept up to date by the joins and leaves that follow.

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
    const asked = ++this.#asked;
    this.forget();
    try {
      const { clients } = await list();
      if (asked !== this.#asked) return;
      for (const { client, user } of Object.values(clients)) if (!this.#gone.has(client)) this.#clients.set(client, user);
      this.#known = true;
      this.#tell();
    } catch {
      // the namespace keeps no presence, this client may not ask, or the service is away: nothing is shown
    }
  }

  forget() {
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
