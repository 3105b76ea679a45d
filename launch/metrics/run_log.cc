#include "launch/metrics/run_log.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/error.h"
#include "launch/metrics/load_figures.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

double dropped_share(const LayerMetrics& layer) {
  const auto pairs = std::accumulate(layer.counts.begin(), layer.counts.end(), std::int64_t{0});
  return pairs > 0 ? layer.dropped / static_cast<double>(pairs) : 0.0;
}

// Rows of the experts of each rank of an expert-parallel group, all groups together.
Json rank_counts(const LayerMetrics& layer, int ranks) {
  const std::size_t per_rank = layer.counts.size() / static_cast<std::size_t>(ranks);
  Json counts = Json::array();
  for (std::size_t begin = 0; begin + per_rank <= layer.counts.size(); begin += per_rank) {
    const auto first = layer.counts.begin() + static_cast<std::ptrdiff_t>(begin);
    counts.push_back(
        std::accumulate(first, first + static_cast<std::ptrdiff_t>(per_rank), std::int64_t{0}));
  }
  return counts;
}

Json figures_json(const LayerMetrics& layer, int ranks) {
  const LoadFigures f = load_figures(layer.computing_counts(), ranks);
  Json json = {{"layer", layer.layer},
               {"max_vio", f.max_vio},
               {"cv", f.cv},
               {"entropy", f.entropy},
               {"dead", f.dead},
               {"count_mse", f.count_mse},
               {"rank_max_vio", f.rank_max_vio},
               {"dropped", dropped_share(layer)},
               {"rounds", layer.rounds},
               {"top_weight", layer.top_weight},
               {"logit_rms", layer.logit_rms},
               {"lse", layer.lse}};
  if (layer.counts.size() > layer.computing_counts().size()) {
    json["zero_computation"] = layer.zero_computation_share();
  }
  return json;
}

// Drops the lines of steps after `step`, which a resumed run makes again.
void drop_later_lines(const std::string& path, std::int64_t step) {
  std::ifstream in(path);
  if (!in) return;
  const std::string temporary = path + ".tmp";
  std::ofstream out(temporary, std::ios::trunc);
  std::string line;
  while (std::getline(in, line)) {
    const Json json = Json::parse(line, nullptr, false);
    // A line cut short by a kill does not parse.
    if (!json.is_discarded() && json.value("step", std::int64_t{0}) <= step) out << line << '\n';
  }
  out.close();
  if (!out) throw_user_error("cannot write ", temporary, ": ", std::strerror(errno));
  std::filesystem::rename(temporary, path);
}

// Whether a person watches this line. mpirun hands its ranks a pseudo-terminal whatever its own
// output is, so there the launcher's output decides (an orted on another node has none, which means
// no).
bool watched() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return isatty(STDOUT_FILENO) == 1;
  const std::string launcher = "/proc/" + std::to_string(getppid()) + "/fd/1";
  std::error_code error;
  const std::string target = std::filesystem::read_symlink(launcher, error).string();
  return !error && target.starts_with("/dev/pts/");
}

std::string duration(double seconds) {
  const std::int64_t s = std::llround(seconds);
  char text[32];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  return text;
}

}  // namespace

std::int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

RunLog::RunLog(const Setup& setup, std::int64_t resume_step, bool active)
    : setup_(setup), active_(active), terminal_(watched()) {
  if (!active_) return;
  const std::string path = setup_.folder + "/metrics.jsonl";
  drop_later_lines(path, resume_step);
  file_ = std::fopen(path.c_str(), "a");
  if (file_ == nullptr) throw_user_error("cannot open ", path, ": ", std::strerror(errno));
  if (setup_.tensorboard) {
    tensorboard_.emplace(setup_.folder + "/tensorboard", resume_step, setup_.config);
  }
}

RunLog::~RunLog() {
  if (file_ != nullptr) std::fclose(file_);
}

void RunLog::flush() {
  if (file_ != nullptr) std::fflush(file_);
  if (tensorboard_) tensorboard_->flush();
}

void RunLog::step(const StepMetrics& metrics) {
  if (!active_) return;
  tokens_per_step_ = metrics.tokens;
  step_seconds_.push_back(metrics.wall);
  losses_.push_back(metrics.loss);
  skipped_ += metrics.skipped ? 1 : 0;
  write_step(metrics);
  if (window_.empty()) {
    window_ = metrics.layers;
  } else {
    for (std::size_t i = 0; i < window_.size(); ++i) {
      for (std::size_t e = 0; e < window_[i].counts.size(); ++e) {
        window_[i].counts[e] += metrics.layers[i].counts[e];
      }
    }
  }
  if (metrics.step % setup_.log_interval == 0 || metrics.step == setup_.steps || metrics.stop) {
    progress(metrics);
    window_.clear();
  }
}

void RunLog::write_step(const StepMetrics& metrics) {
  const PhaseSeconds& s = metrics.seconds;
  const double rate = static_cast<double>(metrics.tokens) / metrics.wall;
  Json json = {{"kind", "step"},
               {"step", metrics.step},
               {"loss", metrics.loss},
               {"router_loss", metrics.router_loss},
               {"lr", metrics.lr},
               {"grad_norm", metrics.grad_norm},
               {"tokens", metrics.tokens},
               {"tokens_per_second", rate},
               {"flops_per_second", rate * setup_.flops_per_token},
               {"seconds",
                {{"wall", metrics.wall},
                 {"data", s.data},
                 {"compute", s.compute},
                 {"exchange_wait", s.exchange},
                 {"reduce", s.reduce},
                 {"optimizer", s.optimizer}}},
               {"peak_memory", peak_memory()}};
  if (!metrics.mtp_losses.empty()) {
    json["mtp_loss"] = metrics.mtp_loss;
    json["mtp_losses"] = metrics.mtp_losses;
  }
  if (setup_.peak_flops > 0.0) json["mfu"] = rate * setup_.flops_per_token / setup_.peak_flops;
  if (metrics.skipped) json["skipped"] = metrics.nonfinite;
  const bool full = metrics.step % setup_.log_interval == 0 || metrics.step == setup_.steps;
  Json layers = Json::array();
  for (const LayerMetrics& layer : metrics.layers) {
    Json entry = figures_json(layer, setup_.expert_parallel);
    for (std::size_t i = 0; i < layer.losses.size(); ++i) {
      if (layer.losses[i] != 0.0) entry["losses"][setup_.balancers[i]] = layer.losses[i];
    }
    if (full) {
      entry["counts"] = layer.counts;
      if (setup_.expert_parallel > 1)
        entry["rank_counts"] = rank_counts(layer, setup_.expert_parallel);
      const std::size_t experts = layer.counts.size();
      for (std::size_t t = 0; setup_.tags.size() > 1 && t < setup_.tags.size(); ++t) {
        const auto begin = layer.tag_counts.begin() + static_cast<std::ptrdiff_t>(t * experts);
        entry["counts_by_tag"][setup_.tags[t]] =
            std::vector<std::int64_t>(begin, begin + static_cast<std::ptrdiff_t>(experts));
      }
    }
    layers.push_back(std::move(entry));
  }
  if (!layers.empty()) json["layers"] = std::move(layers);
  std::fprintf(file_, "%s\n", json.dump().c_str());
  if (tensorboard_) tensorboard_->step(metrics, setup_.balancers, full);
  if (full) flush();
}

void RunLog::progress(const StepMetrics& metrics) {
  const auto recent = static_cast<std::ptrdiff_t>(
      std::min<std::size_t>(step_seconds_.size(), static_cast<std::size_t>(setup_.log_interval)));
  const double seconds = std::accumulate(step_seconds_.end() - recent, step_seconds_.end(), 0.0) /
                         static_cast<double>(recent);
  double max_vio = 0.0;
  for (const LayerMetrics& layer : window_) {
    max_vio = std::max(max_vio, load_figures(layer.computing_counts()).max_vio);
  }
  const double left = static_cast<double>(setup_.steps - metrics.step) * seconds;
  char line[256];
  std::snprintf(
      line, sizeof line, "step %lld/%lld  loss %.4f  lr %.2e  grad norm %.3f  %.0f tokens/s",
      static_cast<long long>(metrics.step), static_cast<long long>(setup_.steps), metrics.loss,
      metrics.lr, metrics.grad_norm, static_cast<double>(metrics.tokens) / seconds);
  std::string text = line;
  if (!window_.empty()) {
    std::snprintf(line, sizeof line, "  MaxVio %.2f", max_vio);
    text += line;
  }
  if (skipped_ > 0) text += "  skipped " + std::to_string(skipped_);
  text += "  ETA " + duration(left);
  // On a terminal the line stays in place until the run ends; in a file each one is a line.
  const bool last = metrics.step == setup_.steps || metrics.stop;
  std::printf(terminal_ ? "\r\033[K%s%s" : "%s%s", text.c_str(), terminal_ && !last ? "" : "\n");
  std::fflush(stdout);
}

void RunLog::evaluation(std::int64_t step, const std::vector<EvalResult>& results) {
  if (!active_) return;
  for (const EvalResult& result : results) {
    Json json = {{"kind", "evaluation"},    {"step", step},        {"dataset", result.name},
                 {"tokens", result.tokens}, {"loss", result.loss}, {"seconds", result.seconds}};
    if (result.bytes > 0) json["nats_per_byte"] = result.nats_per_byte;
    if (!result.mtp_losses.empty()) json["mtp_losses"] = result.mtp_losses;
    for (const LayerMetrics& layer : result.layers) {
      json["layers"].push_back(figures_json(layer, setup_.expert_parallel));
      const auto index = static_cast<std::size_t>(layer.layer);
      if (index < result.churn.size() && result.churn[index] >= 0.0) {
        json["layers"].back()["churn"] = result.churn[index];
      }
    }
    std::fprintf(file_, "%s\n", json.dump().c_str());
    std::printf("%sstep %lld  validation %s: %.4f nats per token", terminal_ ? "\r\033[K" : "",
                static_cast<long long>(step), result.name.c_str(), result.loss);
    if (result.bytes > 0) std::printf(", %.4f nats per byte", result.nats_per_byte);
    std::printf("\n");
  }
  if (tensorboard_) tensorboard_->evaluation(step, results);
  flush();
}

double RunLog::median_tokens_per_second() const {
  if (step_seconds_.empty()) return 0.0;
  std::vector<double> sorted = step_seconds_;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2),
                   sorted.end());
  return static_cast<double>(tokens_per_step_) / sorted[sorted.size() / 2];
}

double RunLog::recent_loss() const {
  if (losses_.empty()) return 0.0;
  const auto count = static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, losses_.size() / 10));
  return std::accumulate(losses_.end() - count, losses_.end(), 0.0) / static_cast<double>(count);
}

}  // namespace witan
