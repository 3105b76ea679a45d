#include "launch/profile/summary.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "launch/profile/phase_times.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBackward = " backward";

// "router backward" -> "router".
std::string without_direction(const std::string& name) {
  return name.ends_with(kBackward) ? name.substr(0, name.size() - std::string(kBackward).size())
                                   : name;
}

double per_step_ms(double us, double steps) { return us * 1e-3 / steps; }

std::vector<PhaseFigures> figures_of(const std::vector<RankTimes>& times,
                                     PhaseTimes RankTimes::*part, double steps) {
  const auto ranks = static_cast<double>(times.size());
  std::map<std::string, PhaseFigures> phases;
  for (const RankTimes& of_rank : times) {
    std::map<std::string, PhaseTime> by_name;
    for (const auto& [key, time] : of_rank.*part) by_name[key.first] += time;
    for (const auto& [name, time] : by_name) {
      PhaseFigures& phase = phases[name];
      phase.name = name;
      phase.ms += per_step_ms(time.own_us, steps) / ranks;
      phase.wait_ms += per_step_ms(time.wait_us, steps) / ranks;
      phase.worst_ms = std::max(phase.worst_ms, per_step_ms(time.own_us, steps));
      phase.calls += static_cast<double>(time.calls) / steps / ranks;
    }
  }
  std::vector<PhaseFigures> result;
  for (auto& [name, phase] : phases) result.push_back(phase);
  std::sort(result.begin(), result.end(),
            [](const PhaseFigures& a, const PhaseFigures& b) { return a.ms > b.ms; });
  return result;
}

void add_layers(const std::vector<RankTimes>& times, double steps, ProfileSummary& summary) {
  const double scale = 1e-3 / steps / static_cast<double>(times.size());
  std::map<int, std::map<std::string, double>> layers;
  std::map<std::string, double> totals;
  for (const RankTimes& of_rank : times) {
    for (const auto& [key, time] : of_rank.inside) {
      if (key.second < 0) continue;
      const std::string name = without_direction(key.first);
      layers[key.second][name] += time.own_us * scale;
      totals[name] += time.own_us * scale;
    }
  }
  for (const auto& [name, ms] : totals) summary.layer_phases.push_back(name);
  std::stable_sort(
      summary.layer_phases.begin(), summary.layer_phases.end(),
      [&](const std::string& a, const std::string& b) { return totals[a] > totals[b]; });
  for (auto& [layer, by_name] : layers) {
    LayerFigures& figures = summary.layers.emplace_back();
    figures.layer = layer;
    for (const std::string& name : summary.layer_phases) {
      figures.ms.push_back(by_name[name]);
      figures.total_ms += by_name[name];
    }
  }
}

void add_collectives(const std::vector<RankTrace>& traces, double steps, ProfileSummary& summary) {
  const double scale = 1.0 / steps / static_cast<double>(traces.size());
  std::map<std::pair<std::string, std::string>, CollectiveFigures> collectives;
  for (const RankTrace& trace : traces) {
    for (const TraceEvent* event : collectives_of_steps(trace)) {
      CollectiveFigures& c = collectives[{event->name, event->communicator}];
      c.name = event->name;
      c.communicator = event->communicator;
      if (event->kind == TraceEvent::Kind::kWait) {
        c.wait_ms += event->duration_us * 1e-3 * scale;
        continue;
      }
      c.calls += scale;
      c.bytes += static_cast<double>(event->bytes) * scale;
      c.ms += event->duration_us * 1e-3 * scale;
    }
  }
  for (auto& [key, c] : collectives) {
    if (c.ms > 0.0) c.gb_per_s = c.bytes / c.ms * 1e-6;
    summary.collectives.push_back(c);
  }
  std::sort(summary.collectives.begin(), summary.collectives.end(),
            [](const CollectiveFigures& a, const CollectiveFigures& b) { return a.ms > b.ms; });
}

void add_totals(const std::vector<RankTrace>& traces, double steps, ProfileSummary& summary) {
  for (const RankTrace& trace : traces) {
    summary.lost_events += trace.lost_events;
    summary.clock_uncertainty_us =
        std::max(summary.clock_uncertainty_us, trace.clock_uncertainty_us);
    for (const TraceEvent& event : trace.events) {
      if (event.kind != TraceEvent::Kind::kPhase || event.name != kStepPhase) continue;
      summary.step_ms += per_step_ms(event.duration_us, steps) / static_cast<double>(traces.size());
    }
  }
}

template <class... Values>
void line(std::string& out, const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  out += text;
}

// The rest of a phase that others lie inside of.
std::string shown_name(const std::string& name) {
  static const std::set<std::string> outer = {"step", "forward", "backward", "recompute",
                                              "forward for the counts"};
  return outer.contains(name) ? "rest of " + name : name;
}

void phase_table(const ProfileSummary& s, std::string& out) {
  line(out, "%-28s %10s %7s %10s %10s %8s\n", "time by phase", "ms/step", "share", "waiting",
       "slowest", "calls");
  const auto row = [&](const PhaseFigures& p) {
    line(out, "%-28s %10.3f %6.1f%% %10.3f %10.3f %8.1f\n", shown_name(p.name).c_str(), p.ms,
         100.0 * p.ms / s.step_ms, p.wait_ms, p.worst_ms, p.calls);
  };
  for (const PhaseFigures& p : s.phases) row(p);
  if (!s.beside.empty()) out += "between steps\n";
  for (const PhaseFigures& p : s.beside) row(p);
}

void layer_table(const ProfileSummary& s, std::string& out) {
  if (s.layers.empty()) return;
  out += "\nms/step by layer, forward and backward\nlayer";
  const auto width = [](const std::string& name) {
    return static_cast<int>(std::max<std::size_t>(name.size(), 8)) + 2;
  };
  for (const std::string& name : s.layer_phases) line(out, "%*s", width(name), name.c_str());
  line(out, "%10s\n", "all");
  for (const LayerFigures& layer : s.layers) {
    line(out, "%5d", layer.layer);
    for (std::size_t i = 0; i < layer.ms.size(); ++i) {
      line(out, "%*.3f", width(s.layer_phases[i]), layer.ms[i]);
    }
    line(out, "%10.3f\n", layer.total_ms);
  }
}

void collective_table(const ProfileSummary& s, std::string& out) {
  if (s.collectives.empty()) return;
  line(out, "\n%-20s %-13s %8s %10s %12s %12s %8s\n", "collectives of a rank", "communicator",
       "calls", "MB/step", "in flight ms", "waiting ms", "GB/s");
  for (const CollectiveFigures& c : s.collectives) {
    line(out, "%-21s %-13s %8.1f %10.3f %12.3f %12.3f %8.3f\n", c.name.c_str(),
         c.communicator.c_str(), c.calls, c.bytes * 1e-6, c.ms, c.wait_ms, c.gb_per_s);
  }
}

Json phases_json(const std::vector<PhaseFigures>& phases) {
  Json json = Json::array();
  for (const PhaseFigures& p : phases) {
    json.push_back({{"name", p.name},
                    {"ms", p.ms},
                    {"wait_ms", p.wait_ms},
                    {"slowest_ms", p.worst_ms},
                    {"calls", p.calls}});
  }
  return json;
}

}  // namespace

ProfileSummary summarize_profile(const std::vector<RankTrace>& traces) {
  ProfileSummary summary;
  summary.ranks = traces.at(0).ranks;
  summary.expert_parallel = traces[0].expert_parallel;
  summary.first_step = traces[0].first_step;
  summary.last_step = traces[0].last_step;
  const auto steps = static_cast<double>(summary.last_step - summary.first_step + 1);
  std::vector<RankTimes> times;
  for (const RankTrace& trace : traces) times.push_back(phase_times(trace));
  add_totals(traces, steps, summary);
  summary.phases = figures_of(times, &RankTimes::inside, steps);
  summary.beside = figures_of(times, &RankTimes::beside, steps);
  add_layers(times, steps, summary);
  add_collectives(traces, steps, summary);
  return summary;
}

std::string profile_text(const ProfileSummary& s) {
  std::string out;
  line(out, "steps %lld to %lld, %d ranks (EP %d): %.3f ms a step\n",
       static_cast<long long>(s.first_step), static_cast<long long>(s.last_step), s.ranks,
       s.expert_parallel, s.step_ms);
  if (s.ranks > 1) line(out, "clocks of the ranks agree to %.1f us\n", s.clock_uncertainty_us);
  if (s.lost_events > 0) {
    line(out, "WARNING: %lld events found no room and are missing below\n",
         static_cast<long long>(s.lost_events));
  }
  out += "\n";
  phase_table(s, out);
  layer_table(s, out);
  collective_table(s, out);
  return out;
}

std::string profile_json(const ProfileSummary& s) {
  Json json = {{"first_step", s.first_step},
               {"last_step", s.last_step},
               {"ranks", s.ranks},
               {"expert_parallel", s.expert_parallel},
               {"step_ms", s.step_ms},
               {"clock_uncertainty_us", s.clock_uncertainty_us},
               {"lost_events", s.lost_events},
               {"phases", phases_json(s.phases)},
               {"between_steps", phases_json(s.beside)},
               {"layers", Json::array()},
               {"collectives", Json::array()}};
  for (const LayerFigures& layer : s.layers) {
    Json entry = {{"layer", layer.layer}, {"ms", layer.total_ms}, {"phases", Json::object()}};
    for (std::size_t i = 0; i < layer.ms.size(); ++i) {
      entry["phases"][s.layer_phases[i]] = layer.ms[i];
    }
    json["layers"].push_back(std::move(entry));
  }
  for (const CollectiveFigures& c : s.collectives) {
    json["collectives"].push_back({{"name", c.name},
                                   {"communicator", c.communicator},
                                   {"calls", c.calls},
                                   {"bytes", c.bytes},
                                   {"ms", c.ms},
                                   {"wait_ms", c.wait_ms},
                                   {"gb_per_s", c.gb_per_s}});
  }
  return json.dump(2) + "\n";
}

}  // namespace witan
