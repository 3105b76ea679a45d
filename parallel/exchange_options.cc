#include "parallel/exchange_options.h"

namespace witan {
namespace {

using configs::ExchangeConfig;

ExchangeTransport transport_of(ExchangeConfig::Transport transport) {
  switch (transport) {
    case ExchangeConfig::SHARED_WINDOWS: return ExchangeTransport::kSharedWindows;
    case ExchangeConfig::ALL_TO_ALL: return ExchangeTransport::kAllToAll;
    default: return ExchangeTransport::kAuto;
  }
}

bool sends_bfloat16(const configs::RunConfig& run) {
  switch (run.parallel().exchange().network_type()) {
    case ExchangeConfig::AS_COMPUTED: return false;
    case ExchangeConfig::BFLOAT16: return true;
    default: return run.runtime().precision() == configs::RuntimeConfig::BF16;
  }
}

}  // namespace

ExchangeOptions exchange_options(const configs::RunConfig& run) {
  const ExchangeConfig& config = run.parallel().exchange();
  ExchangeOptions options;
  options.rows_per =
      config.rows() == ExchangeConfig::PER_CHOICE ? RowsPer::kChoice : RowsPer::kRank;
  options.transport = transport_of(config.transport());
  options.format = sends_bfloat16(run) ? ops::WireFormat::kBfloat16 : ops::WireFormat::kAsIs;
  options.chunks = static_cast<int>(config.chunks());
  options.max_rows = config.max_rows();
  return options;
}

}  // namespace witan
