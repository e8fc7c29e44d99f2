//! What a reload may replace while it is in use.

use std::cell::RefCell;
use std::rc::Rc;

/// A value that stands until another is put in its place. Who has taken it keeps the one that was taken: on a worker's thread
/// nothing comes between.
pub struct Live<T>(RefCell<Rc<T>>);

impl<T> Live<T> {
    pub fn new(value: T) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Rc::new(value))))
    }

    pub fn get(&self) -> Rc<T> {
        self.0.borrow().clone()
    }

    pub fn set(&self, value: T) {
        self.0.replace(Rc::new(value));
    }
}
