//! Takes turns with others in a benchmark, with lines on stdin and stdout.
//!
//! A request is "CANDIDATE ENCODING MILLISECONDS FILE": count the file's tokens again and again for at
//! least that time. The reply is the time of a pass in nanoseconds and the number of tokens. Time is the
//! processor time of this thread. The first line says that the program is ready.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::time::Duration;

fn counter(candidate: &str, encoding: &str) -> Option<Box<dyn Fn(&str) -> usize>> {
    Some(match (candidate, encoding) {
        ("bpe-openai", "o200k_base") => Box::new(|text| bpe_openai::o200k_base().count(text)),
        ("bpe-openai", "cl100k_base") => Box::new(|text| bpe_openai::cl100k_base().count(text)),
        ("tiktoken-rs", "o200k_base") => {
            Box::new(|text| tiktoken_rs::o200k_base_singleton().count_ordinary(text))
        }
        ("tiktoken-rs", "cl100k_base") => {
            Box::new(|text| tiktoken_rs::cl100k_base_singleton().count_ordinary(text))
        }
        _ => return None,
    })
}

/// The processor time of this thread.
fn clock() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to t, and nothing else.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    assert_eq!(result, 0, "no clock for the thread's processor time");
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    let mut texts: HashMap<String, String> = HashMap::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [candidate, encoding, milliseconds, file] = words[..] else {
            panic!("a request is CANDIDATE ENCODING MILLISECONDS FILE")
        };
        if !texts.contains_key(file) {
            let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
            texts.insert(file.to_string(), text);
        }
        let text = &texts[file];
        let count = counter(candidate, encoding).expect("a candidate and an encoding that are known");
        let least = Duration::from_millis(milliseconds.parse().expect("a number of milliseconds"));
        let begin = clock();
        let mut passes = 0;
        let (spent, tokens) = loop {
            let tokens = std::hint::black_box(count(std::hint::black_box(text)));
            passes += 1;
            let spent = clock() - begin;
            if spent >= least {
                break (spent, tokens);
            }
        };
        writeln!(out, "{} {}", spent.as_nanos() / passes, tokens)?;
    }
    Ok(())
}
