#include "launch/metrics/tensorboard_log.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "launch/metrics/load_figures.h"
#include "launch/metrics/tensorboard.pb.h"
#include "launch/metrics/tfrecord.h"

namespace witan {
namespace {

using tensorboard::Event;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

// "events.out.tfevents." is what TensorBoard looks for; files of a folder are read in order of
// their names, so the time comes first.
std::string file_name() {
  return "events.out.tfevents." + std::to_string(static_cast<std::int64_t>(seconds_since_1970())) +
         "." + host_name() + "." + std::to_string(::getpid());
}

void add_scalar(Event& event, const std::string& tag, double value) {
  auto& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  entry.set_simple_value(static_cast<float>(value));
}

void add_text(Event& event, const std::string& tag, const std::string& text) {
  auto& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  entry.mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  entry.mutable_tensor()->set_dtype(tensorboard::Tensor::DT_STRING);
  entry.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(1);
  entry.mutable_tensor()->add_string_val(text);
}

void add_load(Event& event, const std::string& tag, const std::vector<std::int64_t>& counts) {
  auto& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  auto& histogram = *entry.mutable_histo();
  double tokens = 0.0, sum = 0.0, squares = 0.0;
  for (std::size_t e = 0; e < counts.size(); ++e) {
    const auto count = static_cast<double>(counts[e]);
    const auto expert = static_cast<double>(e);
    tokens += count;
    sum += count * expert;
    squares += count * expert * expert;
    histogram.add_bucket_limit(expert + 0.5);
    histogram.add_bucket(count);
  }
  histogram.set_min(0.0);
  histogram.set_max(static_cast<double>(counts.size()) - 1.0);
  histogram.set_num(tokens);
  histogram.set_sum(sum);
  histogram.set_sum_squares(squares);
}

void add_figures(Event& event, const std::string& prefix, const LayerMetrics& layer) {
  const LoadFigures figures = load_figures(layer.counts);
  const std::string suffix = "/layer_" + std::to_string(layer.layer);
  add_scalar(event, prefix + "max_vio" + suffix, figures.max_vio);
  add_scalar(event, prefix + "entropy" + suffix, figures.entropy);
  add_scalar(event, prefix + "dead" + suffix, static_cast<double>(figures.dead));
}

}  // namespace

TensorBoardLog::TensorBoardLog(const std::string& folder, std::int64_t resume_step,
                               const std::string& config)
    : path_(folder + "/" + file_name()) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_user_error(folder, ": cannot be made: ", error.message());
  file_ = std::fopen(path_.c_str(), "ab");
  if (file_ == nullptr) throw_user_error(path_, ": cannot be written: ", std::strerror(errno));
  Event version, start, text;
  version.set_file_version("brain.Event:2");
  write(version, 0);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  write(start, resume_step + 1);
  // Markdown: four spaces in front keep lines as they are.
  std::string block = "    ";
  for (const char c : config) block += c == '\n' ? std::string("\n    ") : std::string(1, c);
  add_text(text, "config", block);
  write(text, resume_step);
  flush();
}

TensorBoardLog::~TensorBoardLog() {
  if (file_ != nullptr) std::fclose(file_);
}

void TensorBoardLog::flush() { std::fflush(file_); }

void TensorBoardLog::write(Event& event, std::int64_t step) {
  event.set_wall_time(seconds_since_1970());
  event.set_step(step);
  const std::string record = tfrecord(event.SerializeAsString());
  if (std::fwrite(record.data(), 1, record.size(), file_) != record.size()) {
    throw_user_error(path_, ": cannot be written: ", std::strerror(errno));
  }
}

void TensorBoardLog::step(const StepMetrics& metrics, const std::vector<std::string>& balancers,
                          bool counts) {
  Event event;
  add_scalar(event, "train/loss", metrics.loss);
  add_scalar(event, "train/router_loss", metrics.router_loss);
  for (std::size_t k = 0; k < metrics.mtp_losses.size(); ++k) {
    add_scalar(event, "train/mtp_loss/depth_" + std::to_string(k + 1), metrics.mtp_losses[k]);
  }
  add_scalar(event, "train/lr", metrics.lr);
  add_scalar(event, "train/grad_norm", metrics.grad_norm);
  add_scalar(event, "train/tokens_per_second", static_cast<double>(metrics.tokens) / metrics.wall);
  for (const LayerMetrics& layer : metrics.layers) {
    add_figures(event, "load/", layer);
    const std::string name = "layer_" + std::to_string(layer.layer);
    for (std::size_t i = 0; i < layer.losses.size(); ++i) {
      if (layer.losses[i] != 0.0) {
        add_scalar(event, "losses/" + balancers[i] + "/" + name, layer.losses[i]);
      }
    }
    if (counts) add_load(event, "experts/" + name, layer.counts);
  }
  write(event, metrics.step);
}

void TensorBoardLog::evaluation(std::int64_t step, const std::vector<EvalResult>& results) {
  Event event;
  for (const EvalResult& result : results) {
    add_scalar(event, "validation/loss/" + result.name, result.loss);
    if (result.bytes > 0) {
      add_scalar(event, "validation/nats_per_byte/" + result.name, result.nats_per_byte);
    }
    for (const LayerMetrics& layer : result.layers) {
      add_figures(event, "validation/" + result.name + "/", layer);
    }
  }
  write(event, step);
  flush();
}

}  // namespace witan
