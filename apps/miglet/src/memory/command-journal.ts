import { type FileHandle, open } from "node:fs/promises";
import { type Log, readFileIfThere, writeFileAtomic } from "@mig/kit";
import { answerFromJson, answerToJson, asObject, type CommandAnswer, limits, readText } from "@mig/protocol";

export interface JournalEntry {
  id: string;
  type: string;
  /** Present when the command is done. */
  answer?: CommandAnswer;
}

/**
 * Which commands this agent has acted on: the last 1,000 ids, one JSON line for `received` and one for `done`,
 * synced before the call resolves. Parameters are not kept, because they hold secrets. A line that cannot be read is
 * skipped. When the disk refuses, the journal goes on in memory: a command that acts is worth more than a record.
 */
export interface CommandJournal {
  find(commandId: string): JournalEntry | undefined;
  unfinished(): JournalEntry[];
  /** The results of the newest commands that are done, oldest first. */
  results(max: number): CommandAnswer[];
  received(id: string, type: string): Promise<void>;
  done(id: string, type: string, answer: CommandAnswer): Promise<void>;
  close(): Promise<void>;
}

export async function openCommandJournal(
  path: string,
  log: Log,
  entriesMax: number = limits.commandJournalMax,
): Promise<CommandJournal> {
  const entries = new Map<string, JournalEntry>();
  let lines = 0;
  let file: FileHandle | undefined;
  let tail: Promise<void> = Promise.resolve();

  const remember = (entry: JournalEntry): void => {
    entries.set(entry.id, entry);
    // What is not finished yet is never forgotten: forgetting it would let it act twice.
    for (const [id, old] of entries) {
      if (entries.size <= entriesMax) break;
      if (old.answer !== undefined) entries.delete(id);
    }
  };

  const rewrite = async (): Promise<void> => {
    await file?.close();
    file = undefined;
    await writeFileAtomic(path, [...entries.values()].map(encodeEntry).join(""));
    lines = entries.size;
    file = await open(path, "a", 0o600);
  };

  const record = (entry: JournalEntry): Promise<void> => {
    remember(entry);
    tail = tail.then(async () => {
      try {
        if (file === undefined || lines >= entriesMax * 4) return await rewrite();
        await file.appendFile(encodeEntry(entry));
        await file.datasync();
        lines += 1;
      } catch (error) {
        log.error({ error, command_id: entry.id }, "The command journal could not be written.");
        await file?.close().catch(() => {});
        file = undefined;
      }
    });
    return tail;
  };

  const text = (await readFileIfThere(path).catch(() => undefined)) ?? "";
  for (const line of text.split("\n")) {
    const entry = decodeEntry(line);
    if (entry !== undefined) remember(entry);
  }
  await rewrite().catch((error: unknown) => log.error({ error }, "The command journal could not be opened."));

  return {
    find: (commandId) => entries.get(commandId),
    unfinished: () => [...entries.values()].filter((entry) => entry.answer === undefined),
    results: (max) =>
      [...entries.values()].flatMap(({ answer }) => (answer === undefined ? [] : [answer])).slice(-max),
    received: (id, type) => record({ id, type }),
    done: (id, type, answer) => record({ id, type, answer }),
    async close() {
      await tail;
      await file?.close();
      file = undefined;
    },
  };
}

function encodeEntry(entry: JournalEntry): string {
  const answer = entry.answer === undefined ? {} : { answer: answerToJson(entry.answer) };
  return `${JSON.stringify({ id: entry.id, type: entry.type, ...answer })}\n`;
}

function decodeEntry(line: string): JournalEntry | undefined {
  try {
    const from = asObject(JSON.parse(line));
    const id = from === undefined ? undefined : readText(from, "id");
    if (from === undefined || id === undefined) return undefined;
    const answer = asObject(from["answer"]);
    return {
      id,
      type: readText(from, "type") ?? "",
      ...(answer === undefined ? {} : { answer: answerFromJson(answer, id) }),
    };
  } catch {
    return undefined;
  }
}
