// Calls to the server: JSON over POST, with the token in the Authorization header.

const PATIENCE = 20_000; // ms to wait for a response; every call may be repeated

export class ApiError extends Error {
  // status 0: the server was not reached. word: 'moved', 'full' ..., as the server names it.
  constructor(status, word, message, answer) {
    super(message);
    Object.assign(this, { status, word, answer });
  }

  // Whether the same call may succeed later.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export class Api {
  constructor(token) {
    this.token = token;
  }

  // body: an object, or its JSON. keepalive: the page is being left.
  async post(path, body, { keepalive = false } = {}) {
    let response, answer;
    try {
      response = await fetch(`/api/${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${this.token}` },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        keepalive,
        signal: AbortSignal.timeout(PATIENCE),
      });
      answer = await response.json();
    } catch (error) {
      const status = response && !response.ok ? response.status : 0;
      throw new ApiError(status, 'unreachable', String(error.message || error), {});
    }
    if (!response.ok) throw new ApiError(response.status, answer.error, answer.message, answer);
    return answer;
  }
}
