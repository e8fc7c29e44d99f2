//! Follows all that a client sends on one connection: head, body, head. Tells how much of it hyper may see.

use crate::listener::guard::chunks::{Chunks, End, Progress, pass};
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
            match self.step(rest) {
                Step::Sound(more) => sound += more,
                Step::Last(more, rest) => return Verdict { sound: sound + more, rest },
            }
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        let (at, step) = match &mut self.at {
            At::Head(reader) => match reader.judge(bytes, &self.limits) {
                Judgement::Incomplete => return Step::Last(0, Rest::Wait),
                Judgement::Sound { length, framing } => (At::body(framing), Step::Sound(length)),
                Judgement::Refused(denial) => (At::Lost, Step::Last(0, Rest::Refused(denial))),
            },
            At::Length(left) => {
                let (passed, left) = pass(*left, bytes.len());
                (At::body(Framing::Length(left)), Step::Sound(passed))
            }
            At::Chunked(chunks) => match chunks.follow(bytes) {
                Progress { taken, end: End::Open } => return Step::Sound(taken),
                Progress { taken, end: End::Whole } => (At::body(Framing::None), Step::Sound(taken)),
                Progress { taken, end: End::Broken } => (At::Lost, Step::Last(taken, Rest::Broken)),
            },
            At::Lost => return Step::Last(0, Rest::Wait),
        };
        self.at = at;
        step
    }
}

/// So many bytes are sound, and what follows them is judged next, or not at all.
enum Step {
    Sound(usize),
    Last(usize, Rest),
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
