#include "launch/run_summary.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <span>

#include "launch/metrics/load_figures.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

// One character per expert, its share of the even load: ' ' none, then eighths up to twice the
// mean.
std::string load_bars(std::span<const std::int64_t> counts) {
  static constexpr const char* kBars[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                          "\u2585", "\u2586", "\u2587", "\u2588"};
  double total = 0.0;
  for (const std::int64_t n : counts) total += static_cast<double>(n);
  if (total == 0.0) return {};
  // Many experts: as many per character as fit 64 characters.
  const std::size_t per_bar = (counts.size() + 63) / 64;
  std::string bars;
  for (std::size_t i = 0; i < counts.size(); i += per_bar) {
    const std::size_t end = std::min(counts.size(), i + per_bar);
    double sum = 0.0;
    for (std::size_t e = i; e < end; ++e) sum += static_cast<double>(counts[e]);
    const double relative =
        sum / static_cast<double>(end - i) / (total / static_cast<double>(counts.size()));
    const int level =
        relative <= 0.0 ? 0 : std::clamp(static_cast<int>(std::lround(relative * 4.0)), 1, 8);
    bars += kBars[level];
  }
  return bars;
}

}  // namespace

std::string human_bytes(std::int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024.0 && unit < 4) {
    value /= 1024.0;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string summary_json(const RunSummary& s) {
  Json json = {{"name", s.name},
               {"step", s.step},
               {"steps", s.steps},
               {"tokens", s.tokens},
               {"train_loss", s.train_loss},
               {"tokens_per_second", s.tokens_per_second},
               {"seconds", s.seconds},
               {"total_parameters", s.total_parameters},
               {"active_parameters", s.active_parameters},
               {"ranks", s.ranks},
               {"expert_parallel", s.expert_parallel},
               {"threads", s.threads},
               {"kernels", s.kernels},
               {"stopped", s.stopped},
               {"checkpoint", s.checkpoint},
               {"peak_memory", s.peak_memory}};
  for (const MemoryPart& part : s.memory) json["memory"][part.name] = part.bytes;
  json["validation"] = Json::array();
  for (const EvalResult& result : s.validation) {
    Json entry = {{"dataset", result.name}, {"tokens", result.tokens}, {"loss", result.loss}};
    if (result.bytes > 0) {
      entry["bytes"] = result.bytes;
      entry["nats_per_byte"] = result.nats_per_byte;
    }
    if (!result.mtp_losses.empty()) entry["mtp_losses"] = result.mtp_losses;
    json["validation"].push_back(std::move(entry));
  }
  json["load"] = Json::array();
  for (const LayerMetrics& layer : s.load) {
    const LoadFigures figures = load_figures(layer.computing_counts(), s.expert_parallel);
    json["load"].push_back({{"layer", layer.layer},
                            {"max_vio", figures.max_vio},
                            {"cv", figures.cv},
                            {"entropy", figures.entropy},
                            {"dead", figures.dead},
                            {"rank_max_vio", figures.rank_max_vio},
                            {"counts", layer.counts}});
    if (layer.counts.size() > layer.computing_counts().size()) {
      json["load"].back()["zero_computation"] = layer.zero_computation_share();
    }
    const auto experts = static_cast<std::ptrdiff_t>(layer.counts.size());
    auto begin = layer.tag_counts.begin();
    for (std::size_t t = 0; s.tags.size() > 1 && t < s.tags.size(); ++t, begin += experts) {
      json["load"].back()["counts_by_tag"][s.tags[t]] =
          std::vector<std::int64_t>(begin, begin + experts);
    }
  }
  json["worst_step_max_vio"] = s.worst_step_max_vio;
  return json.dump(2) + "\n";
}

void print_summary(const RunSummary& s) {
  std::printf("\n%s: %lld of %lld steps, %lld tokens, %d ranks (EP %d) x %d threads, %.1f s\n",
              s.name.c_str(), static_cast<long long>(s.step), static_cast<long long>(s.steps),
              static_cast<long long>(s.tokens), s.ranks, s.expert_parallel, s.threads, s.seconds);
  if (!s.stopped.empty()) std::printf("  stopped early: %s\n", s.stopped.c_str());
  std::printf("  parameters         %lld, %lld active per token\n",
              static_cast<long long>(s.total_parameters),
              static_cast<long long>(s.active_parameters));
  std::printf("  training loss      %.4f nats per token (mean of the last tenth of the steps)\n",
              s.train_loss);
  for (const EvalResult& result : s.validation) {
    std::printf("  validation loss    %.4f nats per token", result.loss);
    if (result.bytes > 0) std::printf(", %.4f nats per byte", result.nats_per_byte);
    std::printf("  (%s, %lld tokens)\n", result.name.c_str(),
                static_cast<long long>(result.tokens));
    for (std::size_t k = 0; k < result.mtp_losses.size(); ++k) {
      std::printf("  %zu further on       %.4f nats per token (multi-token prediction)\n", k + 1,
                  result.mtp_losses[k]);
    }
  }
  std::printf("  speed              %.0f tokens/s (median step)\n", s.tokens_per_second);
  std::printf("  memory (rank 0)    peak %s resident:", human_bytes(s.peak_memory).c_str());
  for (const MemoryPart& part : s.memory) {
    std::printf(" %s %s,", part.name.c_str(), human_bytes(part.bytes).c_str());
  }
  std::printf(" the rest is code, libraries and the page cache of mapped data\n");
  if (!s.load.empty()) {
    std::printf("  expert load over the last tenth of the steps (half height: even)\n");
    for (const LayerMetrics& layer : s.load) {
      const LoadFigures figures = load_figures(layer.computing_counts(), s.expert_parallel);
      std::printf("    layer %-3d |%s|  MaxVio %.3f, entropy %.3f, dead %lld\n", layer.layer,
                  load_bars(layer.computing_counts()).c_str(), figures.max_vio, figures.entropy,
                  static_cast<long long>(figures.dead));
    }
  }
  if (!s.checkpoint.empty()) std::printf("  checkpoint         %s\n", s.checkpoint.c_str());
  std::fflush(stdout);
}

}  // namespace witan
