// Audio thread of the station: counts frames, cuts what was heard into blocks, plays the voice at its frames.
"use strict";

const BLOCK_S = 0.02;
const RING_FRAMES = 1 << 18; // 1.4 s at 192 kHz
const FULL_SCALE = 32768;

class StationProcessor extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.hears = options.processorOptions.hears;
    this.plays = options.processorOptions.plays;
    this.blockFrames = Math.max(1, Math.round((sampleRate * BLOCK_S) / 128)) * 128;
    this.block = new Int16Array(this.blockFrames);
    this.filled = 0;
    this.nextFrame = -1;
    this.ring = new Int16Array(RING_FRAMES); // frame f is at f mod RING_FRAMES; what was played is 0 again
    this.lateFrames = 0;
    this.output = null; // the worker's end of the channel
    this.port.onmessage = ({ data }) => {
      this.output = data.port;
      this.output.onmessage = ({ data }) => this.take(data.firstFrame, data.samples);
    };
  }

  take(firstFrame, samples) {
    for (let i = 0; i < samples.length; i++) {
      const frame = firstFrame + i;
      if (frame >= currentFrame && frame < currentFrame + RING_FRAMES) {
        this.ring[frame % RING_FRAMES] = samples[i];
      } else if (samples[i] !== 0) {
        this.lateFrames += 1;
      }
    }
  }

  process(inputs, outputs) {
    const heard = inputs.length && inputs[0].length ? inputs[0][0] : null;
    const out = outputs[0][0];
    const frames = out.length;
    for (let i = 0; i < frames; i++) {
      const at = (currentFrame + i) % RING_FRAMES;
      out[i] = this.plays ? this.ring[at] / FULL_SCALE : 0;
      this.ring[at] = 0;
    }
    if (this.nextFrame !== currentFrame && this.filled) this.send(this.nextFrame); // quanta were left out
    for (let i = 0; i < frames; i++) {
      const value = heard ? Math.round(heard[i] * FULL_SCALE) : 0;
      this.block[this.filled++] = Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, value));
      if (this.filled === this.blockFrames) this.send(currentFrame + i + 1);
    }
    this.nextFrame = currentFrame + frames;
    return true;
  }

  send(endFrame) {
    if (this.output) {
      const samples = this.block.slice(0, this.filled);
      const message = { firstFrame: endFrame - this.filled, samples, wallMs: Date.now(), lateFrames: this.lateFrames };
      this.output.postMessage(message, [samples.buffer]);
    }
    this.filled = 0;
  }
}

registerProcessor("station", StationProcessor);
