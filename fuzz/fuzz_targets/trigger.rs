//! See `repull_fuzz::trigger`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| repull_fuzz::trigger(data));
