/**
 * The client for programs in TypeScript: joins a room, and stays in it while the network comes and
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
