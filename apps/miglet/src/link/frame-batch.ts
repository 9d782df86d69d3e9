/**
 * Messages that are sent in one go become one frame, as a JSON array: the controller grants a socket a hundred frames a
 * second, and a batch of events has five hundred.
 */
export interface FrameBatch {
  /** Resolves when it was handed to the socket. */
  send(text: string): Promise<void>;
  /** Resolves as soon as another may be added: at once, until much waits. */
  queue(text: string): Promise<void>;
}

const messagesMax = 500;
const charsMax = 256 * 1024;
/** What may wait before `queue` waits too. */
const waitingCharsMax = 1024 * 1024;

interface Waiting {
  text: string;
  resolve(): void;
  reject(error: unknown): void;
}

export function createFrameBatch(sendFrame: (text: string) => Promise<void>): FrameBatch {
  const waiting: Waiting[] = [];
  let waitingChars = 0;
  let isSending = false;

  const take = (): Waiting[] => {
    let chars = 0;
    let count = 0;
    for (const { text } of waiting) {
      chars += text.length;
      if (count === messagesMax || (count > 0 && chars > charsMax)) break;
      count += 1;
    }
    return waiting.splice(0, count);
  };
  const sendAll = async (): Promise<void> => {
    // A turn of the event loop, so that what is said in one go goes in one frame.
    await new Promise((resolve) => setImmediate(resolve));
    while (waiting.length > 0) {
      const batch = take();
      const texts = batch.map(({ text }) => text);
      try {
        await sendFrame(texts.length === 1 ? (texts[0] ?? "") : `[${texts.join(",")}]`);
        for (const one of batch) one.resolve();
      } catch (error) {
        for (const one of [...batch, ...waiting.splice(0)]) one.reject(error);
      }
      waitingChars = waiting.reduce((sum, { text }) => sum + text.length, 0);
    }
    isSending = false;
  };
  const send = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ text, resolve, reject });
      waitingChars += text.length;
      if (isSending) return;
      isSending = true;
      void sendAll();
    });

  return {
    send,
    async queue(text) {
      const sent = send(text);
      if (waitingChars >= waitingCharsMax) return sent;
      sent.catch(() => {}); // the end of the call is told to everybody
    },
  };
}
