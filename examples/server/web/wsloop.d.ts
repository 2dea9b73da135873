// Types of wsloop.js. BROWSERS.md describes it. Times are in milliseconds.

/** The answer to a request, or a broadcast: the JSON that the Go package calls Response. */
export interface Message {
  /** Says what `code` does, or names a broadcast. */
  readonly message: string;
  readonly body: string;
  /** That of the request; 0 for a broadcast. */
  readonly id: number;
  /** A status code of HTTP; 0 for a broadcast. */
  readonly code: number;
  /** The number of a broadcast within its topic, and that of the one before it; 0 if it has none. */
  readonly seq: number;
  readonly prev: number;
  /** Parses `body`. It throws a SyntaxError if that is not JSON. */
  json<T = any>(): T;
}

/** Where a broadcast belongs. Ids of one key rise; one that is not above the last is taken for a repetition and dropped. */
export interface Track {
  key: string;
  id: number;
  /** The id before this one. If another one was seen last, something is missing, and `resume` is called. */
  prev?: number;
}

export type Method = "DELETE" | "GET" | "PATCH" | "POST" | "PUT";

export interface RequestOptions {
  /** A string is sent as it is, all else as JSON. */
  body?: unknown;
  /** Until the answer has come, from the call on; Infinity: as long as it takes. Default: `requestTimeout` of the client. */
  timeout?: number;
  /** Rejects with the signal's reason. What was sent may be carried out all the same. */
  signal?: AbortSignal;
  /** Send it again after a connection was lost before its answer: for requests that may be carried out twice. Default: false. */
  idempotent?: boolean;
  /** Wait for a connection. If it is false and there is none, reject immediately. Default: true. */
  wait?: boolean;
}

/** What `resume` is given: the new connection, before anybody else may use it. */
export interface Session {
  /** Whether it is the first connection of the client. */
  readonly first: boolean;
  /** Why it is called: a connection has been made, or a broadcast is missing on one that is in use. */
  readonly why: "connected" | "gap";
  /** The last id seen of each key. Broadcasts with ids that come before the end of `resume` are held back, and not counted yet. */
  readonly last: ReadonlyMap<string, number>;
  /** Aborted when the connection is lost. */
  readonly signal: AbortSignal;
  /** As that of the client, over this connection at once and over no other. */
  request(method: Method | string, target: string, options?: RequestOptions): Promise<Message>;
  /** Gives a missed broadcast to its subscribers, unless they have had it: as text or as an object. `seq` is for one that has none itself. */
  deliver(message: string | Partial<Message>, seq?: number): void;
  /**
   * Asks a route of `Node.RegisterResume` (module cluster) for what a topic has had after the last id of `key`, and delivers it.
   * It resolves to false if some is not kept any more.
   */
  since(target: string, key: string): Promise<boolean>;
}

/** What `admission` returns: a Response of fetch is one. */
export interface Admission {
  /** 401, 403, 404: the client gives up. 429, 503: it waits as `retryAfter` or the header says. All else: it tries again as usual. */
  status: number;
  /** Seconds. */
  retryAfter?: number;
  headers?: { get(name: string): string | null };
}

type Provided<T> = T | ((context: { signal: AbortSignal; last: ReadonlyMap<string, number> }) => T | Promise<T>);

export interface Options {
  /** Subprotocols, or a function that is called for each try. */
  protocols?: Provided<string | string[]>;
  /** Asked after a handshake that has failed, as a browser tells no script why: a URL for fetch, or a function. */
  admission?: string | URL | ((context: { signal: AbortSignal }) => Admission | Promise<Admission>);
  /** Called after each connection was opened, the first one too, before the state is "connected". If it rejects, the client connects again. */
  resume?: (session: Session) => void | Promise<unknown>;
  /** Says which broadcasts have ids. A string is the key for those with a `seq`, which counts with `prev`. Default: none has. */
  track?: (message: Message) => Track | string | null | undefined;
  /** Close codes after which the client gives up, or a function that says so. Default: none. */
  final?: readonly number[] | ((code: number, reason: string) => boolean);
  /** Told what handlers, `track` and `final` throw. Default: these are uncaught errors, which concern nothing else. */
  onerror?: (error: unknown) => void;

  /** For each request without a `timeout` of its own. Default: 10000. */
  requestTimeout?: number;
  /** For a handshake; up to four times as much after some that took longer. Default: 10000. */
  connectTimeout?: number;
  /** Silence after which the server is asked for a sign of life; 0: never. Default: 4000. */
  heartbeat?: number;
  /** How long that may take. With `heartbeat` it is when a dead network is noticed. Default: 5000. */
  heartbeatTimeout?: number;
  /** The request that asks. Any answer counts, 404 too. Default: "/heartbeat", with GET. */
  heartbeatTarget?: string;
  /** The shortest and the longest delay before the next try. Defaults: 500 and 30000. */
  minDelay?: number;
  maxDelay?: number;
  /** How long all clients of a server that stops (1001, 1012) take to come back. Default: 5000. */
  spread?: number;
  /** A connection that has lasted so long resets the back-off. Default: 10000. */
  stable?: number;
  /** Default: "arraybuffer". */
  binaryType?: BinaryType;
  /** The class to use. Default: that of the platform. */
  WebSocket?: typeof WebSocket;
}

export type State = {
  /**
   * - `connecting`: a try is under way, up to the end of `resume`
   * - `connected`
   * - `waiting`: until the moment `next`
   * - `ended`: by `close`, or given up for the reason `error`
   */
  readonly name: "connecting" | "connected" | "waiting" | "ended";
  /** When the next try begins, as Date.now() tells the time; 0 unless the client waits. */
  readonly next: number;
  /** How many tries have failed since the last stable connection. */
  readonly failures: number;
  /** Why there is no connection; undefined if there is one, in the beginning, and after `close`. */
  readonly error: ClientError | undefined;
};

/**
 * - `answer`: the code of the answer is 400 or above
 * - `timeout`: no answer in time; of a state: no handshake in time
 * - `lost`: the connection was lost before the answer, or is. `cause` of a request's error is that of the state
 * - `silent`: the server gave no sign of life
 * - `refused`: by `admission`
 * - `failed`: a function among the options has failed, see `cause`; or the URL is bad
 * - `closed`: by `close`, or the client has given up
 */
export type ErrorKind = "answer" | "timeout" | "lost" | "silent" | "refused" | "failed" | "closed";

export class ClientError extends Error {
  readonly kind: ErrorKind;
  /** Whether the request was given to a connection: if so, and without an answer, it may have been carried out. */
  readonly sent: boolean;
  /** That of the answer, the Close frame (1006: none came), or the status of `admission`; 0 if there is none. */
  readonly code: number;
  /** Of the Close frame. */
  readonly reason: string;
  /** Of kind `answer`. */
  readonly answer?: Message;
  /** What `admission` returned, of kind `refused`. */
  readonly admission?: Admission;
}

export class Client {
  /** Begins to connect. The URL may be relative, and its scheme http or https; a function is called for each try. */
  constructor(url: Provided<string | URL>, options?: Options);

  readonly state: State;
  /** The last id seen of each key. What was seen in another life of the page may be set before the first connection. */
  readonly last: Map<string, number>;

  /** Sends a request. It resolves to an answer with a code below 400, and rejects with a ClientError or the reason of its signal. */
  request(method: Method | string, target: string, options?: RequestOptions): Promise<Message>;

  /** Subscribes to broadcasts of a name, or to all: "*". It returns the function that ends it. */
  on(name: string, handler: (message: Message) => void): () => void;
  /** Subscribes to binary messages and to texts that are no answer or broadcast. */
  onRaw(handler: (data: string | ArrayBuffer | Blob) => void): () => void;
  /** Subscribes to changes of the state. The handler is called with the present one immediately. */
  onState(handler: (state: State) => void): () => void;

  /** Sends a message as it is. It returns false, and does nothing, unless the state is "connected". */
  send(data: string | ArrayBufferLike | ArrayBufferView | Blob): boolean;

  /** Tries immediately, if the client waits, a try hangs, or it has given up. After `close` it does nothing. */
  retry(): void;
  /** Ends the connection and the client: no timer is left, all requests reject. */
  close(code?: number, reason?: string): void;
}
