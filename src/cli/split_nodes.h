// SPDX-License-Identifier: Apache-2.0
// Other servers as members of a split inference: from a list of peers, or from a cluster file. They
// are reached as clients reach them: by a known name or an address, with the identity and the token
// that `outboard login` keeps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "split/exec/split_session.h"
#include "split/report/cluster_file.h"
#include "wire/access.h"

namespace outboard::cli {

// kInvalid with the peer that is none.
Result<std::vector<wire::Access>> resolve_peers(const std::vector<std::string>& peers,
                                                bool insecure);

// This node and its peers; everything is measured. `least_gain` 0: a plan is used whatever it
// gains.
split::exec::SplitOptions options_of_peers(const std::vector<wire::Access>& peers,
                                           double least_gain);

// The nodes of a file; all but the host need an address. kInvalid with the node that has none.
Result<split::exec::SplitOptions> options_of_cluster(const split::ClusterFile& file, bool insecure);

// Where finished bands are kept: in a folder of the store's. Null, with a line in the log, where
// that cannot be used.
std::shared_ptr<split::exec::BandStore> open_bands(const std::string& store);

// A connection to one of the peers, named by its address; kRefused for any other.
Result<std::shared_ptr<wire::Connection>> connect_to_peer(const std::vector<wire::Access>& peers,
                                                          const std::string& address);

}  // namespace outboard::cli
