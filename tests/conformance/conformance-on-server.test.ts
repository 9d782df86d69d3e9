import { describeOnServer } from "../../apps/controller/tests/engines.ts";
import { playList } from "./play-list.ts";

describeOnServer("the list", (engine) => playList(() => engine.create()));
