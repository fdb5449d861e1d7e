//! The ISO reader: images of xorriso in every dress, judged by what other readers unpack from them; files above 4 GiB; damaged images.

mod changed;
mod damage;
mod importing;
mod large;
pub mod medium;
mod odd_names;
mod reading;
mod serving;
