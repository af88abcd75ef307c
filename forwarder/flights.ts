interface Flight<Value> {
  readonly value: Promise<Value>;
  readonly controller: AbortController;
  waiting: number;
}

/** Work that several callers want at the same time, done once. It is given up only when every one of them has left. */
export class Flights<Value> {
  readonly #flights = new Map<string, Flight<Value>>();

  /** Joins the work under way by this name or begins it. `signal`: the caller has left. */
  join(name: string, signal: AbortSignal, begin: (signal: AbortSignal) => Promise<Value>): Promise<Value> {
    const flight = this.#flights.get(name) ?? this.#begin(name, begin);
    flight.waiting += 1;
    const leave = () => {
      flight.waiting -= 1;
      if (flight.waiting > 0) return;
      // Whoever comes later must not join what is being given up.
      this.#end(name, flight);
      flight.controller.abort();
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    return flight.value.finally(() => signal.removeEventListener("abort", leave));
  }

  #begin(name: string, begin: (signal: AbortSignal) => Promise<Value>): Flight<Value> {
    const controller = new AbortController();
    const value = begin(controller.signal).finally(() => this.#end(name, flight));
    const flight: Flight<Value> = { value, controller, waiting: 0 };
    this.#flights.set(name, flight);
    return flight;
  }

  #end(name: string, flight: Flight<Value>): void {
    if (this.#flights.get(name) === flight) this.#flights.delete(name);
  }
}
