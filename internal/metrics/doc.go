// Package metrics has the plugin's Prometheus metrics: counters of requests ([Requests]),
// of KDC requests ([KDC]) and of the ticket store ([StoreOperation]), and gauges that
// read the identities of the process when they are scraped ([Register]).
//
// The collectors belong to the process, as the identities do: each configuration
// registers the same ones with its own registry, so that counters continue over a
// reload. Label values are bounded by the configuration; what it does not name is
// [Other]. [Descriptions] lists all metrics.
package metrics
