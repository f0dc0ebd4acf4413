//! Pages as Prometheus's own parsers read them: `textparse`, which a server scrapes with, and `expfmt`.

mod damage;
mod departures;
mod hostile;
mod judge;
mod layout;
mod live;
mod sampled;
