// Carries sound between the audio thread and the head: a thread of its own, which drawing does not hold up.
// Binary messages, little-endian. To the head: float64 first frame, page time [ms], late frames, dropped frames;
// float32 output latency [ms]; uint32 frames; int16 samples. From the head: float64 first frame; int16 samples.
"use strict";

const RECONNECT_MS = 1000;
const MOST_WAITING_S = 1;
const HEADER_BYTES = 40;
const REFUSED = 1008; // the head's word for: do not come again

let socket = null;
let audio = null; // the audio thread's end of the channel
let started = null; // what was said when the station began; said again after a break
let rateHz = 48000;
let latencyMs = 0;
let droppedByBrowser = 0; // frames of the microphone
let unsentBlocks = 0;
let level = 0;

function say(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/station/socket");
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return play(data);
    const message = JSON.parse(data);
    if (message.type === "ping") return say({ type: "pong", id: message.id, page_ms: performance.now() });
    if (message.type === "hello" && started) say(started);
    if (message.type === "ended" || message.type === "taken") started = null;
    postMessage(message);
  };
  socket.onclose = ({ code, reason }) => {
    if (code === REFUSED) return postMessage({ type: "refused", text: reason });
    postMessage({ type: "disconnected" });
    setTimeout(connect, RECONNECT_MS);
  };
}

function play(data) {
  if (!audio || !started) return;
  const samples = new Int16Array(data, 8);
  audio.postMessage({ firstFrame: new DataView(data).getFloat64(0, true), samples });
}

function send({ firstFrame, samples, wallMs, lateFrames }) {
  for (let i = 0; i < samples.length; i++) level = Math.max(level, Math.abs(samples[i]));
  if (!started || !socket || socket.readyState !== WebSocket.OPEN) return;
  if (socket.bufferedAmount > 2 * MOST_WAITING_S * rateHz) {
    unsentBlocks += 1; // the head sees the hole in the counter
    return;
  }
  const heard = started.hears ? samples : new Int16Array(0);
  const data = new ArrayBuffer(HEADER_BYTES + heard.byteLength);
  const view = new DataView(data);
  // How long the block has been under way was taken by one clock at both ends.
  const pageMs = performance.now() - Math.min(Math.max(Date.now() - wallMs, 0), 5000);
  [firstFrame, pageMs, lateFrames, droppedByBrowser].forEach((value, i) => view.setFloat64(8 * i, value, true));
  view.setFloat32(32, latencyMs, true);
  view.setUint32(36, samples.length, true);
  new Int16Array(data, HEADER_BYTES).set(heard);
  socket.send(data);
}

onmessage = ({ data }) => {
  if (data.type === "start") {
    audio = data.port;
    audio.onmessage = ({ data }) => send(data);
    rateHz = data.start.rate_hz;
    started = data.start;
    say(started);
  } else if (data.type === "stop") {
    started = null;
    say({ type: "stop" });
  } else if (data.type === "problem") {
    say({ type: "problem", text: data.text });
  } else if (data.type === "measured") {
    latencyMs = data.latencyMs;
    droppedByBrowser = data.droppedFrames;
  }
};

setInterval(() => {
  postMessage({ type: "level", level, unsentBlocks });
  level = 0;
}, 100);
connect();
