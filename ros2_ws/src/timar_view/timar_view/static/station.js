// The page as the head's microphone and loudspeaker: a bar at the top with its button, level and messages.
"use strict";

(() => {
  const MEASURE_MS = 500;
  const AGAIN_KEY = "timar-station"; // in sessionStorage: a reload goes on by itself where the browser lets it
  const TAB_KEY = "timar-station-tab"; // a tab that is loaded again takes its own place
  const ENDED_BY_DEVICE = "The microphone is gone. Plug it in again, then press Start.";
  const WHY = {
    NotAllowedError:
      "The browser does not let this page use the microphone. Allow it (the symbol beside the address), then press Start.",
    NotFoundError: "No microphone was found. Plug one in, then press Start.",
    NotReadableError: "The microphone cannot be opened: another program uses it, or the system forbids it.",
  };
  let rights = { hears: false, plays: false, echo_cancellation: true };
  let context = null, stream = null, node = null, hasBegun = false, state = "idle";

  const worker = new Worker("/station/station_worker.js");

  // The bar.

  const bar = document.createElement("div");
  bar.id = "station";
  bar.style.cssText =
    "position:fixed;left:8px;top:8px;z-index:9999;display:flex;flex-wrap:wrap;gap:8px;align-items:center;" +
    "max-width:min(44em,calc(100vw - 32px));padding:6px 10px;border-radius:8px;background:#fffd;" +
    "font:14px/1.4 system-ui,sans-serif;box-shadow:0 1px 4px #0004";
  bar.innerHTML =
    '<button id="station-button" style="font:inherit;padding:4px 14px;border:0;border-radius:6px;' +
    'background:#14727f;color:#fff;cursor:pointer">Start</button>' +
    '<label id="station-echo" hidden><input type="checkbox" id="station-echo-box"> echo cancellation</label>' +
    '<span id="station-meter" hidden style="width:70px;height:8px;background:#dde3e6;border-radius:4px">' +
    '<span id="station-level" style="display:block;width:0;height:8px;border-radius:4px;background:#d9822b"></span></span>' +
    '<span id="station-text" role="status"></span>';
  const part = (name) => bar.querySelector("#station-" + name);
  const button = part("button");

  function show(next, text) {
    state = next;
    bar.dataset.state = next;
    part("text").textContent = text;
    button.textContent = { running: "Stop", taken: "Take over", suspended: "Go on" }[next] || "Start";
    button.disabled = next === "starting";
    part("echo").hidden = !rights.hears || next === "running";
    part("meter").hidden = !rights.hears || next !== "running";
  }

  function purpose() {
    if (rights.hears && rights.plays) return "Press Start to talk with the head: microphone and voice in this page.";
    return rights.hears ? "Press Start: the head hears by this page's microphone." : "Press Start to hear the head.";
  }

  function fail(text) {
    stop();
    show("failed", text);
    worker.postMessage({ type: "problem", text });
  }

  function tabKey() {
    const key = sessionStorage.getItem(TAB_KEY) || Math.random().toString(36).slice(2);
    sessionStorage.setItem(TAB_KEY, key);
    return key;
  }

  // Sound.

  async function start(takesOver) {
    stop();
    show("starting", "");
    if (!window.isSecureContext) return fail("The browser allows sound only by https or from this machine.");
    try {
      let rate;
      if (rights.hears) {
        const audio = { echoCancellation: part("echo-box").checked, noiseSuppression: false, autoGainControl: false };
        stream = await navigator.mediaDevices.getUserMedia({ audio });
        rate = stream.getAudioTracks()[0].getSettings().sampleRate; // at its own rate nothing is resampled twice
      }
      context = new AudioContext({ latencyHint: "interactive", ...(rate && { sampleRate: rate }) });
      await context.audioWorklet.addModule("/station/station_worklet.js");
    } catch (error) {
      return fail(WHY[error.name] || `The sound cannot be used: ${error.message}`);
    }
    const own = context;
    node = new AudioWorkletNode(context, "station", {
      numberOfInputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
      outputChannelCount: [1],
      processorOptions: rights,
    });
    node.connect(context.destination);
    let label = "";
    if (stream) {
      context.createMediaStreamSource(stream).connect(node);
      const track = stream.getAudioTracks()[0];
      label = track.label;
      track.onended = () => own === context && fail(ENDED_BY_DEVICE);
      track.onmute = () => own === context && note("The system has muted the microphone.");
      track.onunmute = () => own === context && note("");
    }
    const channel = new MessageChannel();
    node.port.postMessage({ port: channel.port1 }, [channel.port1]);
    context.onstatechange = () => own === context && watch();
    hasBegun = false;
    const begin = () => {
      if (own !== context || hasBegun) return;
      hasBegun = true;
      const details = { tab: tabKey(), rate_hz: context.sampleRate, label, hears: rights.hears, plays: rights.plays };
      const said = { type: "start", takes_over: takesOver, ...details };
      worker.postMessage({ type: "start", start: said, port: channel.port2 }, [channel.port2]);
    };
    if (context.state === "running") begin();
    else {
      show("suspended", "The browser wants a click before it plays sound.");
      context.resume().then(begin, () => {});
    }
  }

  function stop() {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    if (context) context.close().catch(() => {});
    if (hasBegun) worker.postMessage({ type: "stop" });
    context = stream = node = null;
    hasBegun = false;
  }

  function note(text) {
    if (state === "running") part("text").textContent = text || running();
    if (text) worker.postMessage({ type: "problem", text });
  }

  const running = () =>
    rights.hears ? "Say something; you may interrupt the head." : "The head's voice is played here.";

  function watch() {
    if (context.state === "running") {
      if (state === "suspended" && hasBegun) show("running", running());
    } else if (context.state !== "closed" && hasBegun) {
      show("suspended", "The browser has stopped the sound of this page.");
      worker.postMessage({ type: "problem", text: "the browser has stopped the sound of the page" });
    }
  }

  function measure() {
    if (!context || context.state !== "running") return;
    const at = context.getOutputTimestamp ? context.getOutputTimestamp() : {};
    let latencyMs = 1000 * (context.outputLatency || context.baseLatency || 0);
    if (at.contextTime > 0 && at.performanceTime > 0) {
      latencyMs = 1000 * (context.currentTime - at.contextTime) - (performance.now() - at.performanceTime);
    }
    const track = stream && stream.getAudioTracks()[0];
    const counted = (track && track.stats) || { totalFrames: 0, deliveredFrames: 0 };
    const droppedFrames = counted.totalFrames - counted.deliveredFrames;
    worker.postMessage({ type: "measured", latencyMs: Math.min(Math.max(latencyMs, 0), 2000), droppedFrames });
  }

  // What is pressed, and what comes.

  button.onclick = () => {
    if (state === "running") {
      stop();
      sessionStorage.removeItem(AGAIN_KEY);
      show("idle", purpose());
    } else if (state === "suspended" && context) {
      context.resume();
    } else {
      start(state === "taken");
    }
  };

  worker.onmessage = ({ data }) => {
    if (data.type === "hello") {
      rights = { hears: data.hears, plays: data.plays };
      if (state === "idle") {
        part("echo-box").checked = data.echo_cancellation;
        show("idle", purpose());
        if (sessionStorage.getItem(AGAIN_KEY)) start(false);
      }
    } else if (data.type === "started") {
      sessionStorage.setItem(AGAIN_KEY, "1");
      show("running", running());
    } else if (data.type === "taken" || data.type === "ended") {
      hasBegun = false;
      stop();
      sessionStorage.removeItem(AGAIN_KEY);
      show(data.type === "taken" ? "taken" : "idle", data.text);
    } else if (data.type === "refused") {
      stop();
      show("refused", data.text);
      button.hidden = true;
    } else if (data.type === "disconnected" && hasBegun) {
      part("text").textContent = "The head does not answer. If it was started again, open its new address.";
    } else if (data.type === "level") {
      part("level").style.width = `${Math.min(100, Math.max(0, 100 + 1.7 * 20 * Math.log10(data.level / 32768 + 1e-6)))}%`;
    }
  };

  setInterval(measure, MEASURE_MS);
  document.body.append(bar);
  show("idle", "");
  window.timarStation = { get context() { return context; }, get node() { return node; }, get stream() { return stream; } };
})();
