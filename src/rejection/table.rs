//! How reasons are written down: as a table.

/// Declares an enum of reasons: one row gives a variant its message for operators, its stable code, its class and its
/// stage, so that none of the four can be forgotten.
macro_rules! reasons {
    ($(#[doc = $top:literal])* pub enum $name:ident { $( $(#[doc = $doc:literal])* $stage:ident $variant:ident $({ $($field:ident : $type:ty),* $(,)? })? $code:literal $class:ident $message:literal; )* }) => {
        $(#[doc = $top])*
        #[derive(Clone, Debug, thiserror::Error)]
        pub enum $name { $( $(#[doc = $doc])* #[error($message)] $variant $({ $($field: $type),* })?, )* }

        impl $name {
            /// All codes, in the order of the table.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// The stable code: logs, metrics, `explain`, contract files.
            pub fn code(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $code, )* }
            }

            pub fn class(&self) -> $crate::rejection::Class {
                match self { $( Self::$variant { .. } => $crate::rejection::Class::$class, )* }
            }

            pub fn stage(&self) -> $crate::rejection::Stage {
                match self { $( Self::$variant { .. } => $crate::rejection::Stage::$stage, )* }
            }

            /// The class that a code belongs to. `None` when no reason has that code.
            pub fn class_of_code(code: &str) -> Option<$crate::rejection::Class> {
                match code { $( $code => Some($crate::rejection::Class::$class), )* _ => None }
            }
        }
    };
}

pub(super) use reasons;
