/**
 * TCP sockets and `epoll` of the kernel, through the C library.
 *
 * The runtime's own connections cost several times as much, and with thousands of them some are
 * served long before others. A load must be neither slow nor unfair.
 *
 * Linux only.
 *
 * @module
 */

const AF_INET = 2;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const CTL = { add: 1, remove: 2, change: 3 } as const;
const EVENT = { readable: 0x1, writable: 0x4, error: 0x8, hangUp: 0x10 } as const;

/** `struct epoll_event` is packed only on x86-64. */
const EVENT_WORDS = Deno.build.arch === "x86_64" ? 3 : 4;
const DATA_WORD = EVENT_WORDS - 2;
const MAX_EVENTS = 256;

// The results of `recv` and `send` are read as 32 bits: no call here moves more bytes, and a number
// costs less than a bigint.
const LIBC = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  // Waits for exact times. Exists since glibc 2.35 and Linux 5.11.
  epoll_pwait2: {
    parameters: ["i32", "buffer", "i32", "buffer", "pointer"],
    result: "i32",
    optional: true,
  },
} as const;

/** Called when a socket is ready. */
export interface SocketHandler {
  onReadable(): void;
  onWritable(): void;
}

/** Opens sockets and waits until one is ready. */
export class Sockets {
  readonly #c = Deno.dlopen("libc.so.6", LIBC).symbols;
  readonly #epoll = this.#c.epoll_create1(0);
  readonly #handlers: (SocketHandler | undefined)[] = [];
  readonly #event = new Uint32Array(EVENT_WORDS);
  readonly #events = new Uint32Array(EVENT_WORDS * MAX_EVENTS);
  readonly #timeout = new BigInt64Array(2);

  /**
   * Connects to a port of the loopback address, and waits until it is open. Returns the descriptor.
   */
  connect(port: number): number {
    const fd = this.#c.socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) throw new Error("no more sockets: see ulimit -n");
    const address = new Uint8Array(16);
    new Uint16Array(address.buffer, 0, 1)[0] = AF_INET;
    address.set([port >> 8, port & 0xff, 127, 0, 0, 1], 2);
    if (this.#c.connect(fd, address, address.length) !== 0) {
      this.#c.close(fd);
      throw new Error(`nobody listens on port ${port}`);
    }
    this.#c.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, new Uint32Array([1]), 4);
    return fd;
  }

  /** Calls a handler whenever the socket is ready, until the socket is closed or forgotten. */
  watch(fd: number, handler: SocketHandler): void {
    this.#handlers[fd] = handler;
    this.#control(fd, CTL.add, EVENT.readable);
  }

  /** Starts or stops calling the handler when the socket can be written to. */
  watchWritable(fd: number, isWanted: boolean): void {
    this.#control(fd, CTL.change, EVENT.readable | (isWanted ? EVENT.writable : 0));
  }

  /** Stops calling the handler. The socket stays open. */
  forget(fd: number): void {
    this.#handlers[fd] = undefined;
    this.#control(fd, CTL.remove, 0);
  }

  close(fd: number): void {
    this.#handlers[fd] = undefined;
    this.#c.close(fd);
  }

  /** Reads received bytes into `data`. Returns their number: 0 at the end, -1 if there are none. */
  receive(fd: number, data: Uint8Array): number {
    return this.#c.recv(fd, data, BigInt(data.length), MSG_DONTWAIT);
  }

  /** Sends as much of `data` as the network takes now. Returns the number of bytes, -1 for none. */
  send(fd: number, data: Uint8Array): number {
    return this.#c.send(fd, data, BigInt(data.length), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  /** Waits until sockets are ready, at most this many microseconds, and calls their handlers. */
  wait(us: number): void {
    const count = this.#wait(us);
    for (let i = 0; i < count; i++) {
      const what = this.#events[i * EVENT_WORDS]!;
      const fd = this.#events[i * EVENT_WORDS + DATA_WORD]!;
      if (what & EVENT.writable) this.#handlers[fd]?.onWritable();
      if (what & ~EVENT.writable) this.#handlers[fd]?.onReadable();
    }
  }

  #wait(us: number): number {
    if (this.#c.epoll_pwait2 === null) {
      return this.#c.epoll_wait(this.#epoll, this.#events, MAX_EVENTS, Math.ceil(us / 1000));
    }
    this.#timeout[1] = BigInt(Math.trunc(us) * 1000);
    return this.#c.epoll_pwait2(this.#epoll, this.#events, MAX_EVENTS, this.#timeout, null);
  }

  #control(fd: number, how: number, events: number): void {
    this.#event[0] = events;
    this.#event[DATA_WORD] = fd;
    this.#c.epoll_ctl(this.#epoll, how, fd, this.#event);
  }
}
