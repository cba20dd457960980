/**
 * Performs commands, and knows when the engine has answered all of them.
 *
 * @module
 */

import type { Command } from "../protocol/commands.ts";
import type { Event } from "../protocol/events.ts";
import type { After } from "../time.ts";
import { type ActionContext, type Actor, PendingAnswer, perform } from "./actions.ts";

/** Performs commands. */
export class Performer {
  readonly #context: ActionContext;
  /** How many commands the engine has not answered yet. */
  #unanswered = 0;
  #onAllAnswered: () => void = () => {};

  constructor(context: ActionContext) {
    this.#context = context;
  }

  /** Performs a command, and calls back with the answer, if there is one, or with the error. */
  perform(
    actor: Actor,
    command: Command,
    onAnswer: (event: Event | undefined) => void,
    onRefusal: (error: unknown) => void,
  ): void {
    const answer = perform(this.#context, actor, command);
    if (!(answer instanceof PendingAnswer)) return onAnswer(answer);
    this.#unanswered++;
    const { result, toEvent } = answer;
    result.then((value) => {
      onAnswer(toEvent(value));
      this.#settle();
    }, (error) => {
      onRefusal(error);
      this.#settle();
    });
  }

  /** Resolves when the engine has answered every command, or after `maxMs`. */
  async allAnswered(maxMs: number, after: After): Promise<void> {
    if (this.#unanswered === 0) return;
    await new Promise<void>((resolve) => {
      this.#onAllAnswered = resolve;
      after(maxMs, resolve);
    });
  }

  #settle(): void {
    if (--this.#unanswered === 0) this.#onAllAnswered();
  }
}
