/**
 * The client, for programs in TypeScript: a place in a room, kept over a network that comes and
 * goes.
 *
 *     import { Connection } from "@hubbub/hubbub/client";
 *
 *     const connection = new Connection({ base: "http://localhost:8080", room: "tea", username: "Ada" });
 *     connection.on("events", (events) => console.log(events));
 *     connection.open();
 *     connection.send("Good morning");
 *
 * @module
 */

// @ts-types="./connection.d.ts"
export { Connection, RefusedError } from "../../public/connection.js";
export type * from "./connection.d.ts";
