// Sound in the browser: the microphone, WAV files from samples, and formats that the server does not read.

const READ_BY_SERVER = /\.(wav|flac|ogg|oga|opus|mp3|aiff?)$/i;

// Samples (mono, -1 to 1) as a WAV file of 16-bit integers.
export function wav(samples, rate) {
  const bytes = new ArrayBuffer(44 + 2 * samples.length), view = new DataView(bytes);
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true));
  return new Blob([bytes], { type: "audio/wav" });
}

// A dropped file as the server can read it: as it is, or decoded here.
export async function readable(file) {
  if (READ_BY_SERVER.test(file.name)) return file;
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name}: not a sound file that this browser can decode.`);
  }
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++)
    sound.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / sound.numberOfChannels; });
  return wav(mono, sound.sampleRate);
}

// Starts to record. `heard` gets the samples of each piece; the result's stop() gives { blob, seconds }.
export async function record(heard) {
  if (!navigator.mediaDevices)
    throw new Error("A browser opens the microphone for localhost or https only. Drop a file instead.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The browser may not use the microphone: allow it for this page, or drop a file."
      : "There is no microphone to record from. Drop a file instead.");
  }
  const context = new AudioContext(), pieces = [];
  const close = () => { stream.getTracks().forEach((track) => track.stop()); context.close(); };
  try {
    await context.audioWorklet.addModule("capture.js");
  } catch (error) {
    close();
    throw error;
  }
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  const ended = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => {
      if (data === null) return resolve();
      pieces.push(data);
      heard(data);
    };
  });
  context.createMediaStreamSource(stream).connect(node);
  return {
    async stop() {
      node.port.postMessage("stop");
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 500))]);
      close();
      const samples = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
      pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
      return { blob: wav(samples, context.sampleRate), seconds: samples.length / context.sampleRate };
    },
  };
}

export const loudest = (samples) => samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
