/**
 * The driver of Redis, which is loaded when it is used.
 *
 * @module
 */

import { Redis } from "ioredis";

/** A connection. */
export const Driver = Redis;
