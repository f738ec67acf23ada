// A card for each run: a bar for each share, the devel error as a mark around its end, and the table to download.

const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const seconds = (value) => value.toFixed(1);

export class Card {
  constructor(run, number) {
    this.run = run;
    this.colour = `--run-${number % 6}`;
    this.element = clone("card");
    this.element.style.setProperty("--colour", `var(${this.colour})`);
    this.element.querySelector("h2").textContent = run.name;
    const scored = run.score === null ? "" : ` · devel ${run.metric} ${run.score.toFixed(3)}`;
    this.element.querySelector(".system").textContent = `${run.system} · window ${+run.window.toFixed(2)} s${scored}`;
    this.stretch = this.element.querySelector(".stretch");
    this.download = this.element.querySelector(".download");
    [this.low, this.span] = [run.range[0], run.range[1] - run.range[0]];
    this.bars = run.targets.map((target) => {
      const bar = clone("bar"), [name, value] = ["dt", ".value"].map((part) => bar.querySelector(part));
      name.textContent = name.title = target;
      this.element.querySelector("dl").append(bar);
      const error = run.error[target], whisker = bar.querySelector(".whisker");
      whisker.style.width = `${(200 * (error ?? 0)) / this.span}%`; // what lies beyond the range is cut off
      return { fill: bar.querySelector(".fill"), whisker, value, error };
    });
    this.clear();
  }

  clear(text = "") {
    this.answer = null;
    this.say(text);
    for (const bar of this.bars) {
      bar.fill.style.transform = "scaleX(0)";
      bar.whisker.style.opacity = 0;
      bar.value.textContent = "–";
    }
    if (this.download.href) URL.revokeObjectURL(this.download.href);
    this.download.removeAttribute("href");
    this.download.setAttribute("aria-disabled", "true");
  }

  say(text, alert = false) {
    this.stretch.textContent = text;
    this.stretch.classList.toggle("alert", alert);
  }

  // answer: { start, end, shares, csv } or { error }; name: of the recording.
  take(answer, name) {
    this.clear();
    if (answer.error) return this.say(answer.error, true);
    this.answer = answer;
    this.centres = answer.start.map((start, i) => (start + answer.end[i]) / 2);
    const count = answer.shares.length;
    this.mean = answer.shares[0].map((_, target) => answer.shares.reduce((sum, row) => sum + row[target], 0) / count);
    this.download.href = URL.createObjectURL(new Blob([answer.csv], { type: "text/csv" }));
    this.download.download = `${name.replace(/\.\w+$/, "")}-${this.run.name}.csv`;
    this.download.removeAttribute("aria-disabled");
  }

  // time: seconds from the beginning; null: the mean over all windows.
  show(time) {
    if (!this.answer) return;
    const { start, end, shares } = this.answer, count = shares.length;
    if (time === null || count === 1) {
      this.say(count === 1 ? `One window, ${seconds(start[0])} to ${seconds(end[0])} s` : `Mean of ${count} windows`);
      return this.draw(this.mean);
    }
    let after = this.centres.findIndex((centre) => centre >= time);
    if (after < 0) after = count - 1;
    const before = Math.max(after - 1, 0), gap = this.centres[after] - this.centres[before];
    const part = gap > 0 ? Math.min(1, Math.max(0, (time - this.centres[before]) / gap)) : 1;
    const nearest = part < 0.5 ? before : after;
    this.say(`Window from ${seconds(start[nearest])} to ${seconds(end[nearest])} s`);
    this.draw(shares[before].map((value, target) => value + part * (shares[after][target] - value)));
  }

  draw(values) {
    values.forEach((value, target) => {
      const { fill, whisker, value: text, error } = this.bars[target];
      const part = (value - this.low) / this.span;
      fill.style.transform = `scaleX(${Math.min(1, Math.max(0, part))})`;
      text.textContent = value.toFixed(2);
      if (error === undefined) return;
      Object.assign(whisker.style, { transform: `translateX(${100 * (part - error / this.span)}cqw)`, opacity: 1 });
      const small = document.createElement("small");
      small.textContent = ` ± ${error.toFixed(2)}`;
      text.append(small);
    });
  }
}
