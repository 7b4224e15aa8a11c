//! The lab: topologies as data, network namespaces, kernel routers, real servers.
