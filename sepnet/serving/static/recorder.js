// A browser cancels echoes, takes noise away and evens out the level of what it records, for calls.
// Here all of it is to be separated, so it is recorded as it sounds.
(() => {
  "use strict";
  const devices = navigator.mediaDevices;
  if (!devices) return; // a page from another host without https has no microphone
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const asked = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (wanted) =>
    asked(wanted && wanted.audio ? { ...wanted, audio: { ...Object(wanted.audio), ...plain } } : wanted);
})();
