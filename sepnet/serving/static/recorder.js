// For calls, browsers cancel echoes, suppress noise and adjust the level of what they record.
// A recording that is to be separated should be unprocessed, so all of this is switched off.
(() => {
  "use strict";
  const devices = navigator.mediaDevices;
  if (!devices) return; // without https, pages of other machines have no access to the microphone
  const unprocessed = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const getUserMedia = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (constraints) => {
    if (!constraints || !constraints.audio) return getUserMedia(constraints);
    return getUserMedia({ ...constraints, audio: { ...Object(constraints.audio), ...unprocessed } });
  };
})();
