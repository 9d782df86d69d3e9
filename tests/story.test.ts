import { tellStory } from "./lib/story.ts";

/** The whole life of a VM, with the agent on Node. tests/packaged.test.ts tells it with the shipped executable. */
tellStory();
