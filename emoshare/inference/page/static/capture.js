// Runs beside the page's script (an AudioWorklet): hands on what the microphone gives, about 20 times a second.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(Math.round(sampleRate / 20));
    this.filled = 0;
    this.going = true;
    this.port.onmessage = () => {
      this.going = false;
      this.port.postMessage(this.samples.slice(0, this.filled)); // the rest
      this.port.postMessage(null); // the end
    };
  }

  process([input]) {
    if (!this.going || !input.length) return this.going;
    let from = 0;
    while (from < input[0].length) {
      const piece = input[0].subarray(from, from + this.samples.length - this.filled);
      this.samples.set(piece, this.filled);
      this.filled += piece.length;
      from += piece.length;
      if (this.filled === this.samples.length) {
        this.port.postMessage(this.samples.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
