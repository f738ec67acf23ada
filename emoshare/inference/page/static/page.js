// The page: what is pressed, dropped and played. Nothing leaves this browser but to the server that the page is from.
import { Card } from "./cards.js";
import { loudest, readable, record } from "./sound.js";
import { drawLive, drawNothing, drawRecording } from "./wave.js";

const part = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const panel = part.recording;
const mark = (name, on) => panel.classList.toggle(name, on);
let limits, cards = [], answer = null, sent = null, request = null, recorder = null, live = [], followed = false;
const KEY_STEP = 0.25; // seconds that an arrow key moves
let turn = 0; // counts what was asked for: an answer to something older is dropped
let switching = false; // while the microphone opens or closes

function say(text, alert = false) {
  part.status.textContent = text;
  part.status.classList.toggle("alert", alert);
}

const clock = (now, all) => (all === undefined ? `${now.toFixed(1)} s` : `${now.toFixed(1)} / ${all.toFixed(1)} s`);

// The picture

function draw() {
  if (recorder) return drawLive(part.wave, live);
  if (!answer) return drawNothing(part.wave);
  const time = +part.position.value;
  const curves = cards.flatMap(({ answer: run, colour }) => (run?.attention ? [{ values: run.attention, name: colour }] : []));
  drawRecording(part.wave, answer.peaks, curves, followed ? time / answer.seconds : 0);
  part.time.textContent = clock(time, answer.seconds);
  part.position.setAttribute("aria-valuetext", `${time.toFixed(1)} seconds`);
  for (const card of cards) card.show(followed ? time : null);
}

function move(time) {
  part.position.value = time;
  draw();
}

function follow() {
  if (part.audio.paused) return;
  move(part.audio.currentTime);
  requestAnimationFrame(follow);
}

function clear() {
  turn++;
  request?.abort();
  request = null;
  answer = null;
  followed = false;
  part.audio.pause();
  if (part.audio.src) URL.revokeObjectURL(part.audio.src);
  part.audio.removeAttribute("src");
  part.play.disabled = part.position.disabled = true;
  part.position.value = 0;
  part.time.textContent = clock(0);
  part.hint.hidden = false;
  mark("working", false);
  for (const card of cards) card.clear();
  draw();
}

// A recording goes to the server, and its shares come back

async function analyse(blob, name) {
  clear();
  if (blob.size > limits.max_mb * 1e6) return say(`${name}: larger than ${limits.max_mb} MB.`, true);
  sent = { blob, name };
  const mine = turn;
  request = new AbortController();
  part.hint.hidden = true;
  mark("working", true);
  say(`Analysing ${name} …`);
  try {
    const query = new URLSearchParams({ name, windows: part.windows.value });
    const reply = await fetch(`analysis?${query}`, {
      method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" }, signal: request.signal,
    });
    const content = await reply.json();
    if (turn !== mine) return;
    if (!reply.ok) throw new Error(content.error);
    mark("working", false);
    show(content, blob);
  } catch (error) {
    if (turn !== mine) return;
    clear();
    say(error instanceof TypeError ? "The server broke off: it is busy, or no longer running. Try again." : error.message, true);
  }
}

function show(content, blob) {
  answer = content;
  part.audio.src = URL.createObjectURL(blob);
  part.position.max = content.seconds;
  part.position.disabled = part.play.disabled = false;
  cards.forEach((card, i) => card.take(content.runs[i], content.name));
  const silent = Math.max(...content.peaks) < 0.002;
  say(silent ? "This recording is silent: check the microphone." : content.name, silent);
  draw();
}

async function take(file) {
  if (!file || !limits) return;
  if (recorder) await stop(false);
  clear();
  const mine = turn;
  say(`Reading ${file.name} …`);
  try {
    const blob = await readable(file);
    if (turn === mine) await analyse(blob, file.name);
  } catch (error) {
    if (turn === mine) say(error.message, true);
  }
}

// The microphone

async function start() {
  clear();
  const mine = turn;
  live = [];
  switching = true;
  say("Opening the microphone …");
  try {
    const opened = await record(heard);
    if (turn !== mine) return void opened.stop(); // a file was dropped in the meantime
    recorder = opened;
  } catch (error) {
    if (turn === mine) say(error.message, true);
    return;
  } finally {
    switching = false;
  }
  part.hint.hidden = true;
  mark("recording", true);
  part["record-text"].textContent = "Stop";
  say("Recording …");
}

function heard(samples) {
  live.push(loudest(samples));
  if (!recorder) return;
  const now = live.length / 20;
  part.time.textContent = clock(now);
  draw();
  if (now >= limits.max_seconds - 1) stop();
}

async function stop(use = true) {
  const ended = recorder;
  if (!ended) return;
  recorder = null;
  mark("recording", false);
  part["record-text"].textContent = "Record";
  switching = true;
  const { blob, seconds } = await ended.stop();
  switching = false;
  if (!use) return;
  if (seconds < 0.2) {
    clear();
    return say("Too short: record a few seconds.", true);
  }
  await analyse(blob, "recording.wav");
}

// Buttons, dropping, playing

part.record.addEventListener("click", () => { if (!switching && limits) recorder ? stop() : start(); });
part.choose.addEventListener("click", () => part.file.click());
part.file.addEventListener("change", () => { take(part.file.files[0]); part.file.value = ""; });
part.windows.addEventListener("change", () => { if (sent && answer) analyse(sent.blob, sent.name); });
part.play.addEventListener("click", () => (part.audio.paused ? part.audio.play().catch(unplayable) : part.audio.pause()));

function unplayable(error) {
  if (error.name === "NotSupportedError") say("This browser cannot play this format; the slider still moves along it.", true);
}

for (const [event, playing] of [["play", true], ["pause", false], ["emptied", false]])
  part.audio.addEventListener(event, () => {
    mark("playing", playing);
    part["play-text"].textContent = playing ? "Pause" : "Play";
    if (playing) { followed = true; follow(); }
  });
part.audio.addEventListener("ended", () => { followed = false; move(0); });
function seek() {
  followed = true;
  if (part.audio.readyState) part.audio.currentTime = +part.position.value;
  draw();
}

part.position.addEventListener("input", seek);
part.position.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!way) return;
  event.preventDefault(); // the slider's own step is as fine as a pixel
  part.position.value = +part.position.value + way * KEY_STEP;
  seek();
});

let inside = 0; // dragenter and dragleave come for each element that is crossed
const files = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => { if (files(event)) { event.preventDefault(); inside++; mark("over", true); } });
addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
addEventListener("dragleave", (event) => { if (files(event) && --inside <= 0) { inside = 0; mark("over", false); } });
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  mark("over", false);
  take(event.dataTransfer.files[0]);
});

new ResizeObserver(draw).observe(part.wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// What the server knows

try {
  limits = await (await fetch("runs")).json();
  cards = limits.runs.map((run, number) => new Card(run, number));
  part.runs.append(...cards.map((card) => card.element));
  const known = limits.runs.some((run) => Object.keys(run.error).length);
  const attending = limits.runs.filter((run) => run.attention).length;
  const lines = attending > 1 ? "The lines over the waveform: how much each run attends" : "The line over the waveform: how much the run attends";
  const ends = [...new Set(limits.runs.map((run) => run.range.join(" and ")))].join(", or ");
  part.reading.textContent = [
    "Shares need not add up to 1, and are no probabilities.",
    limits.runs.every((run) => run.bounded) ? `They lie between ${ends}.` : `Bars end at ${ends}; the numbers of an SVR, or of another head without limits, may lie beyond.`,
    known ? "± and the mark at a bar's end: the mean absolute error on the devel partition." : "",
    attending ? `${lines} to a moment.` : "",
    "Nothing that is recorded is kept.",
  ].filter(Boolean).join(" ");
} catch {
  say("The server does not answer. Is it still running?", true);
}
