#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| gateward::internals::template(input));
