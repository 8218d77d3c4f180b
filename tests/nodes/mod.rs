//! Tests on real nodes: what is expected of the nodes themselves, and then the product on them, as users have it.

mod account;
mod clients;
mod cluster;
mod failures;
mod image;
mod installation;
mod leaving;
mod liveness;
mod pods;
mod product;
mod scenarios;
mod scene;
mod seen;
mod table;
mod web;
