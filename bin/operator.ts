/** A client of the operator's routes and of an account's own, for the commands in this folder. */
export class ApiClient {
  readonly #baseUrl: string;
  readonly #key: string;

  constructor(baseUrl: string, key: string) {
    this.#baseUrl = baseUrl;
    this.#key = key;
  }

  /** Sends JSON and answers JSON. Throws with the API's own code and message when it refuses. */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#fetch(path, {
      method,
      headers: { authorization: `Bearer ${this.#key}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (response.ok) return (await response.json()) as T;
    // What is no Postern answers no JSON.
    const answer = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
    throw new ApiRefusal(response.status, answer.code ?? "UNKNOWN", `${method} ${path}: ${answer.message ?? response.statusText}`);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(`${this.#baseUrl}${path}`, init);
    } catch (error) {
      const { cause } = error as { cause?: { code?: string; message?: string } };
      throw new Error(`${this.#baseUrl} gives no answer: ${cause?.code ?? cause?.message ?? String(error)}`, { cause: error });
    }
  }
}

/** The API answered with an error. */
export class ApiRefusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = "ApiRefusal";
    this.status = status;
    this.code = code;
  }
}
