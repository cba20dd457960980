/**
 * PostgreSQL as the server that instances share.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import type { Backend, BackendOptions, Link, LinkListener } from "../remote/backend.ts";
import { Connection } from "./connection.ts";
import { type BeginRow, PostgresLink } from "./link.ts";
import { CHANNEL, SCHEMA, SCHEMA_VERSION, UPDATE } from "./schema.ts";
import { call } from "./sql.ts";
import { explain, newer, parseTarget, standby, type Target, wrongEncoding } from "./url.ts";

/** What {@linkcode PostgresBackend} needs. */
export interface PostgresOptions extends BackendOptions {
  /** `postgres://…` or `postgresql://…`, see {@linkcode parseTarget}. */
  readonly url: string;
}

/** Reads whether the server can be used, and the comment of the schema, which has its version. */
const CHECK = `
  SELECT json_build_array(pg_is_in_recovery(), current_setting('server_encoding'), (
    SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'hubbub'))`;

/** Creates or updates the schema, unless another instance has done so meanwhile. */
const MIGRATE = `
  SELECT pg_advisory_xact_lock(hashtext('hubbub'));
  DO $do$
  DECLARE v_comment text := obj_description(to_regnamespace('hubbub'), 'pg_namespace');
  BEGIN
    IF to_regnamespace('hubbub') IS NULL THEN
      CREATE SCHEMA hubbub;
    END IF;
    PERFORM set_config('search_path', 'hubbub', true);
    IF v_comment IS NULL THEN
      ${SCHEMA}
    ELSIF v_comment = 'Hubbub, version 1' THEN
      ${UPDATE}
    ELSE
      RETURN;
    END IF;
    COMMENT ON SCHEMA hubbub IS 'Hubbub, version ${SCHEMA_VERSION}';
  END $do$`;

/** A PostgreSQL server. */
export class PostgresBackend implements Backend {
  readonly name = "PostgreSQL";
  readonly #options: PostgresOptions;
  readonly #target: Target;

  /** @throws {Error} whose message says what is wrong with the URL */
  constructor(options: PostgresOptions) {
    this.#options = options;
    this.#target = parseTarget(options.url);
  }

  async connect(listener: LinkListener, signal: AbortSignal): Promise<Link> {
    const opening = new Opening(this.#target, signal);
    try {
      return await this.#connect(opening, listener);
    } catch (error) {
      opening.closeAll();
      throw "code" in (error as Error) ? explain(error, this.#target) : error;
    } finally {
      opening.end();
    }
  }

  async #connect(opening: Opening, listener: LinkListener): Promise<Link> {
    const { connection: writing, answer: check } = await opening.open(CHECK);
    await this.#prepare(writing, JSON.parse(check!));
    const { connection: hearing } = await opening.open(`LISTEN ${CHANNEL}`, { hears: true });
    const reading = await this.#openReader(opening) ?? writing;
    const { clock, keep } = this.#options;
    const name = randomBytes(9).toString("base64url");
    const begin = await writing.query(call("begin_v1", clock?.() ?? null, name));
    const connections = { hearing, writing, reading };
    const options = { ...connections, listener, clock, keep };
    const link = new PostgresLink({ ...options, begin: JSON.parse(begin!) as BeginRow });
    opening.handOver(link);
    return link;
  }

  /** Checks that the server can be used, and creates or updates the schema. */
  async #prepare(connection: Connection, [isStandby, encoding, comment]: CheckRow): Promise<void> {
    if (isStandby) throw new Error(standby(this.#target));
    if (encoding !== "UTF8") throw new Error(wrongEncoding(this.#target, encoding));
    const version = Number(/version (\d+)$/.exec(comment ?? "")?.[1] ?? 0);
    if (version > SCHEMA_VERSION) throw new Error(newer(this.#target, version));
    if (version < SCHEMA_VERSION) await connection.query(MIGRATE);
  }

  /** The third connection, if the server has one left. */
  async #openReader(opening: Opening): Promise<Connection | undefined> {
    if (this.#target.connections < 3) return undefined;
    try {
      return (await opening.open("SELECT 1")).connection;
    } catch (error) {
      if ((error as { code?: string }).code === "53300") return undefined;
      throw error;
    }
  }
}

/** The answer to {@linkcode CHECK}. */
type CheckRow = readonly [isStandby: boolean, encoding: string, comment: string | null];

/** The connections of a link that is being opened. */
class Opening {
  readonly #target: Target;
  readonly #signal: AbortSignal;
  readonly #connections: Connection[] = [];
  readonly #closeAll = () => this.closeAll();
  #link: PostgresLink | undefined;

  /** @param signal closes the connections, until {@linkcode Opening.end} */
  constructor(target: Target, signal: AbortSignal) {
    this.#target = target;
    this.#signal = signal;
    signal.addEventListener("abort", this.#closeAll);
  }

  /**
   * Opens a connection, sends a first statement, and returns both.
   *
   * Only one connection receives notifications. Behind a pooler, a probe could arrive at another
   * one that happens to use the server's listening connection, although no news would.
   */
  async open(
    first: string,
    { hears = false } = {},
  ): Promise<{ connection: Connection; answer: string | null }> {
    const listener = {
      onEnd: () => {
        this.closeAll();
        this.#link?.lose(new Error("A connection to PostgreSQL has ended."));
      },
      onNotify: (payload: string) => hears && this.#link?.hear(payload),
    };
    const opened = await Connection.open(this.#target, { first, listener, signal: this.#signal });
    this.#connections.push(opened.connection);
    return opened;
  }

  /** From now on, the link receives what the connections receive. */
  handOver(link: PostgresLink): void {
    this.#link = link;
  }

  closeAll(): void {
    for (const connection of this.#connections) connection.close();
  }

  /** From now on, the signal no longer closes the connections. */
  end(): void {
    this.#signal.removeEventListener("abort", this.#closeAll);
  }
}
