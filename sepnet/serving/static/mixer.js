// The mixer: all tracks of a result start at the same time of one clock, each with a gain of 0 or 1.
// Events are handled at the document, so that a new result needs no set-up.
(() => {
  "use strict";
  const players = new WeakMap();
  let playing = null;

  class Player {
    constructor(root) {
      this.root = root;
      this.tracks = [...root.querySelectorAll("[data-track]")];
      this.seconds = Number(root.dataset.seconds);
      this.offset = 0; // seconds, at which playback began or stopped
      this.voices = null; // null: not playing
      this.buffers = null;
    }

    async load() {
      if (this.buffers) return;
      this.context = new AudioContext();
      this.meter = this.context.createAnalyser();
      this.meter.connect(this.context.destination);
      this.gains = this.tracks.map(() => {
        const gain = this.context.createGain();
        gain.connect(this.meter);
        return gain;
      });
      const requests = this.tracks.map(async (track) => {
        const response = await fetch(track.dataset.src);
        if (!response.ok) throw new Error("The result has expired: separate again.");
        return this.context.decodeAudioData(await response.arrayBuffer());
      });
      this.buffers = await Promise.all(requests);
      this.mix();
    }

    get position() {
      if (!this.voices) return this.offset;
      const since = Math.max(0, this.context.currentTime - this.begun);
      return Math.min(this.offset + since, this.seconds);
    }

    async play() {
      if (playing && playing !== this) playing.pause();
      playing = this;
      await this.load();
      await this.context.resume();
      if (playing !== this || this.voices) return; // paused or restarted while loading
      if (this.offset >= this.seconds - 0.01) this.offset = 0;
      this.begun = this.context.currentTime + 0.05;
      this.voices = this.buffers.map((buffer, k) => {
        const voice = new AudioBufferSourceNode(this.context, { buffer });
        voice.connect(this.gains[k]);
        voice.start(this.begun, this.offset);
        return voice;
      });
      this.show();
      this.tick();
    }

    pause() {
      this.offset = this.position;
      (this.voices || []).forEach((voice) => voice.stop());
      this.voices = null;
      if (playing === this) playing = null;
      this.show();
    }

    async seek(seconds) {
      const wasPlaying = Boolean(this.voices);
      if (wasPlaying) this.pause();
      this.offset = Math.min(Math.max(seconds, 0), this.seconds);
      this.show();
      if (wasPlaying) await this.play();
    }

    // If any track is on solo, only those are audible; otherwise all that are not muted.
    mix() {
      const pressed = (track, what) => track.querySelector(`[data-${what}]`).getAttribute("aria-pressed") === "true";
      const anySolo = this.tracks.some((track) => pressed(track, "solo"));
      this.tracks.forEach((track, k) => {
        const audible = anySolo ? pressed(track, "solo") : !pressed(track, "mute");
        track.dataset.muted = String(!audible);
        if (this.gains) this.gains[k].gain.setTargetAtTime(audible ? 1 : 0, this.context.currentTime, 0.01);
      });
    }

    level() {
      if (!this.meter) return 0;
      const samples = new Float32Array(this.meter.fftSize);
      this.meter.getFloatTimeDomainData(samples);
      return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
    }

    show() {
      const seconds = this.position;
      const remainder = (seconds % 60).toFixed(1).padStart(4, "0");
      this.root.querySelector("[data-clock]").textContent = `${Math.floor(seconds / 60)}:${remainder}`;
      const button = this.root.querySelector("[data-play]");
      const label = this.voices ? "Pause" : "Play";
      if (button.textContent !== label) {
        button.textContent = label;
        button.setAttribute("aria-label", label);
      }
      this.root.dataset.position = seconds.toFixed(3);
      this.root.dataset.level = this.level().toFixed(6);
      const share = `${(100 * seconds) / this.seconds}%`;
      this.root.querySelectorAll("[data-line]").forEach((line) => (line.style.left = share));
    }

    tick() {
      if (!this.voices) return;
      if (!this.root.isConnected) return this.pause(); // replaced by another result
      if (this.position >= this.seconds) {
        this.pause();
        this.offset = this.seconds;
        return this.show();
      }
      this.show();
      requestAnimationFrame(() => this.tick());
    }
  }

  const playerOf = (element) => {
    const root = element.closest("[data-mixer]");
    if (!players.has(root)) players.set(root, new Player(root));
    return players.get(root);
  };

  const showError = (root, error) => {
    const place = root.querySelector("[data-trouble]");
    place.hidden = false;
    place.textContent = error.message;
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const root = target?.closest("[data-mixer]");
    if (!root) return;
    const player = playerOf(root);
    const toggle = target.closest("[data-solo], [data-mute]");
    const view = target.closest("[data-seek]");
    if (toggle) {
      toggle.setAttribute("aria-pressed", String(toggle.getAttribute("aria-pressed") !== "true"));
      player.mix();
    } else if (target.closest("[data-play]")) {
      const done = player.voices ? player.pause() : player.play();
      Promise.resolve(done).catch((error) => {
        player.buffers = null;
        showError(root, error);
      });
    } else if (view) {
      const box = view.getBoundingClientRect();
      player.seek(((event.clientX - box.left) / box.width) * player.seconds).catch((error) => showError(root, error));
    }
  });
})();
