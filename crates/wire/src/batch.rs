//! A list that cannot be longer than a message may carry.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::MAX_PARTS_PER_MESSAGE;

/// At most [`MAX_PARTS_PER_MESSAGE`] things; a longer list does not decode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Batch<T>(Vec<T>);

impl<T> Batch<T> {
    /// Wraps a list.
    ///
    /// # Errors
    /// Gives the list back when it is too long for one message.
    pub fn new(items: Vec<T>) -> Result<Self, Vec<T>> {
        if items.len() <= MAX_PARTS_PER_MESSAGE { Ok(Self(items)) } else { Err(items) }
    }

    /// Cuts a list of any length into batches, in order.
    pub fn split(items: impl IntoIterator<Item = T>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        for item in items {
            match batches.last_mut() {
                Some(last) if last.0.len() < MAX_PARTS_PER_MESSAGE => last.0.push(item),
                Some(_) | None => batches.push(Self(vec![item])),
            }
        }
        batches
    }

    /// Gives the list.
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T> From<T> for Batch<T> {
    fn from(item: T) -> Self {
        Self(vec![item])
    }
}

impl<T> Deref for Batch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Batch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(|items| {
            serde::de::Error::custom(format!(
                "{} parts in one message, at most {MAX_PARTS_PER_MESSAGE}",
                items.len()
            ))
        })
    }
}
