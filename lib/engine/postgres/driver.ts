/**
 * The driver of PostgreSQL, which is loaded when it is used.
 *
 * @module
 */

import postgres from "postgres";

/** Makes connections. */
export const connect = postgres;
