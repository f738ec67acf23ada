// Draws the waveform, each run's attention over it, and the position.

const PITCH = 4; // pixels from one bar of the waveform to the next

function fitted(canvas) {
  const { width, height } = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function bars(pen, peaks, count, height, played) {
  const top = Math.max(0.02, ...peaks), pens = [colour("--played"), colour("--wave")];
  for (let i = 0; i < count; i++) {
    const from = Math.floor((i * peaks.length) / count), to = Math.max(from + 1, Math.floor(((i + 1) * peaks.length) / count));
    const size = Math.max(2, (Math.max(...peaks.slice(from, to)) / top) * height * 0.86);
    pen.fillStyle = pens[i / count < played ? 0 : 1];
    pen.beginPath();
    pen.roundRect(i * PITCH, (height - size) / 2, PITCH - 1.5, size, 1.25);
    pen.fill();
  }
}

function curve(pen, values, width, height, stroke) {
  const top = Math.max(2, ...values), points = Math.min(values.length, Math.floor(width / 3));
  pen.beginPath();
  for (let i = 0; i < points; i++) {
    const from = Math.floor((i * values.length) / points), to = Math.max(from + 1, Math.floor(((i + 1) * values.length) / points));
    const mean = values.slice(from, to).reduce((sum, value) => sum + value, 0) / (to - from);
    pen.lineTo(((i + 0.5) / points) * width, height - 2 - (mean / top) * (height - 8));
  }
  pen.strokeStyle = stroke;
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.stroke();
  pen.lineTo(width, height);
  pen.lineTo(0, height);
  pen.globalAlpha = 0.1;
  pen.fillStyle = stroke;
  pen.fill();
  pen.globalAlpha = 1;
}

// peaks: of the whole recording; curves: [{ values, name of a colour }]; played: from 0 to 1.
export function drawRecording(canvas, peaks, curves, played) {
  const { pen, width, height } = fitted(canvas);
  bars(pen, peaks, Math.floor(width / PITCH), height, played);
  for (const { values, name } of curves) curve(pen, values, width, height, colour(name));
  if (played > 0) {
    pen.fillStyle = colour("--ink");
    pen.fillRect(Math.min(played * width, width - 2) - 1, 0, 2, height);
  }
}

// The last peaks of a recording that goes on; new ones come in on the right.
export function drawLive(canvas, peaks) {
  const { pen, width, height } = fitted(canvas), count = Math.floor(width / PITCH);
  const shown = peaks.slice(-count);
  pen.fillStyle = colour("--live");
  shown.forEach((peak, i) => {
    const size = Math.max(2, Math.min(1, peak) * height * 0.86);
    pen.beginPath();
    pen.roundRect((count - shown.length + i) * PITCH, (height - size) / 2, PITCH - 1.5, size, 1.25);
    pen.fill();
  });
}

export const drawNothing = (canvas) => fitted(canvas);
