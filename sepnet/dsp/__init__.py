"""Signal processing that methods share: transforms, masks, resampling, loudness, and classical algorithms.

filterbank, fast_stft    the short-time Fourier transform, as filters for networks and by FFT; learned filters
features, mfcc           signals at unit level, magnitudes; mel-frequency cepstral coefficients
mel, kaldi_fbank         mel powers and masks; the log-mel features of taggers
masks, cells             ideal masks, for each bin and for cells of several bins
blocks                   masking of long signals in bounded memory
consistency              estimates that sum to the mixture
resample, loudness       sample rates; loudness after ITU-R BS.1770-4
median                   the running median of the rows or columns of a spectrogram
activity, energy         when a sound occurs; energies of frames
nmf, nmf_online, ica     non-negative matrix factorisation; independent component analysis
kmeans, adam             clustering; Adam for many small problems at once
"""
