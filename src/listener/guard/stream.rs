//! Follows all that a client sends on one connection: head, body, head. Tells how much of it hyper may see.

use crate::listener::guard::chunks::{Chunks, End, pass};
use crate::listener::guard::head::{Framing, HeadLimits, HeadReader, Judgement};
use crate::rejection::Denial;

/// Where in the stream of requests a connection stands.
pub struct Follower {
    limits: HeadLimits,
    at: At,
}

/// What is to be done with some bytes.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// So many of them may be handed on.
    pub sound: usize,
    pub rest: Rest,
}

/// What is to be done with the bytes after the sound ones.
#[derive(Clone, Debug)]
pub enum Rest {
    /// They are to be shown again, with those that come.
    Wait,
    /// They are no request. Nothing that follows is one either.
    Refused(Denial),
    /// They are no body. Nothing that follows is a request.
    Broken,
}

enum At {
    Head(HeadReader),
    Length(u64),
    Chunked(Chunks),
    /// After the first fault. What follows has no meaning.
    Lost,
}

impl Follower {
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, at: At::Head(HeadReader::default()) }
    }

    /// Judges the bytes that follow the sound ones of the call before: those that were to wait and then the new ones.
    pub fn follow(&mut self, bytes: &[u8]) -> Verdict {
        let mut sound = 0;
        loop {
            let rest = bytes.get(sound..).unwrap_or_default();
            if rest.is_empty() {
                return Verdict { sound, rest: Rest::Wait };
            }
            match &mut self.at {
                At::Head(reader) => match reader.judge(rest, &self.limits) {
                    Judgement::Incomplete => return Verdict { sound, rest: Rest::Wait },
                    Judgement::Sound { length, framing } => {
                        sound += length;
                        self.at = At::body(framing);
                    }
                    Judgement::Refused(denial) => {
                        self.at = At::Lost;
                        return Verdict { sound, rest: Rest::Refused(denial) };
                    }
                },
                At::Length(left) => {
                    let (passed, still_left) = pass(*left, rest.len());
                    sound += passed;
                    self.at = At::body(Framing::Length(still_left));
                }
                At::Chunked(chunks) => {
                    let progress = chunks.follow(rest);
                    sound += progress.taken;
                    match progress.end {
                        End::Open => {}
                        End::Whole => self.at = At::body(Framing::None),
                        End::Broken => {
                            self.at = At::Lost;
                            return Verdict { sound, rest: Rest::Broken };
                        }
                    }
                }
                At::Lost => return Verdict { sound, rest: Rest::Wait },
            }
        }
    }
}

impl At {
    fn body(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Head(HeadReader::default()),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::default()),
        }
    }
}
