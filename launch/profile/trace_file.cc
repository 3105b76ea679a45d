#include "launch/profile/trace_file.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/checkpoint/output_file.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "witan profile 1";
constexpr int kFirstTransferThread = 1000;  // threads of the program are numbered from 0
constexpr int kLanes = 100;                 // of one communicator

const char* category_of(TraceEvent::Kind kind) {
  switch (kind) {
    case TraceEvent::Kind::kPhase: return "phase";
    case TraceEvent::Kind::kWait: return "wait";
    default: return "collective";
  }
}

// Places events that may overlap side by side: a lane is a thread of the viewer.
class Lanes {
 public:
  int place(const TraceEvent& event) {
    const auto found = communicators_.try_emplace(event.communicator, communicators_.size()).first;
    std::vector<double>& ends = ends_[found->second];
    std::size_t lane = 0;
    while (lane < ends.size() && ends[lane] > event.begin_us) ++lane;
    lane = std::min<std::size_t>(lane, kLanes - 1);
    if (lane >= ends.size()) ends.push_back(0.0);
    ends[lane] = event.end_us();
    return kFirstTransferThread + kLanes * static_cast<int>(found->second) + static_cast<int>(lane);
  }

  // Thread names, once all events are placed.
  std::map<int, std::string> names() const {
    std::map<int, std::string> names;
    for (const auto& [communicator, index] : communicators_) {
      for (std::size_t lane = 0; lane < ends_.at(index).size(); ++lane) {
        names[kFirstTransferThread + kLanes * static_cast<int>(index) + static_cast<int>(lane)] =
            "collectives: " + communicator + (lane == 0 ? "" : " " + std::to_string(lane + 1));
      }
    }
    return names;
  }

 private:
  std::map<std::string, std::size_t> communicators_;
  std::map<std::size_t, std::vector<double>> ends_;  // per communicator and lane
};

Json event_json(const TraceEvent& event, int rank, int thread) {
  Json args = {{"step", event.step}};
  if (event.layer >= 0) args["layer"] = event.layer;
  if (!event.communicator.empty()) args["communicator"] = event.communicator;
  if (event.kind == TraceEvent::Kind::kCollective) {
    args["bytes"] = event.bytes;
    if (event.duration_us > 0.0) {
      args["gb_per_s"] = static_cast<double>(event.bytes) / event.duration_us * 1e-3;
    }
  }
  return {{"name", event.kind == TraceEvent::Kind::kWait ? "wait " + event.name : event.name},
          {"cat", category_of(event.kind)},
          {"ph", "X"},
          {"ts", event.begin_us},
          {"dur", event.duration_us},
          {"pid", rank},
          {"tid", thread},
          {"args", std::move(args)}};
}

Json metadata_json(const char* what, int rank, int thread, const char* key, const Json& value) {
  return {{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", thread}, {"args", {{key, value}}}};
}

Json header_json(const RankTrace& trace) {
  return {{"format", kFormat},
          {"rank", trace.rank},
          {"ranks", trace.ranks},
          {"expert_parallel", trace.expert_parallel},
          {"host", trace.host},
          {"first_step", trace.first_step},
          {"last_step", trace.last_step},
          {"clock_offset_us", trace.clock_offset_us},
          {"clock_uncertainty_us", trace.clock_uncertainty_us},
          {"lost_events", trace.lost_events}};
}

// The events of one rank, one a line, behind a comma where others stand before them.
class EventWriter {
 public:
  EventWriter(const std::string& path, const Json& header) : file_(path) {
    put("{\"displayTimeUnit\": \"ms\",\n\"otherData\": " + header.dump() + ",\n\"traceEvents\": [");
  }

  void write(const RankTrace& trace) {
    const int rank = trace.rank;
    const std::string name = "rank " + std::to_string(rank) + " on " + trace.host;
    add(metadata_json("process_name", rank, 0, "name", name));
    add(metadata_json("process_sort_index", rank, 0, "sort_index", rank));
    std::vector<const TraceEvent*> sorted;
    for (const TraceEvent& event : trace.events) sorted.push_back(&event);
    std::stable_sort(sorted.begin(), sorted.end(), [](const TraceEvent* a, const TraceEvent* b) {
      return a->begin_us < b->begin_us;
    });
    Lanes lanes;
    std::map<int, std::string> threads;
    for (const TraceEvent* event : sorted) {
      const bool transfer = event->kind == TraceEvent::Kind::kCollective;
      const int thread = transfer ? lanes.place(*event) : event->thread;
      if (!transfer) {
        threads[thread] = thread == 0 ? "step" : "thread " + std::to_string(thread);
      }
      add(event_json(*event, rank, thread));
    }
    threads.merge(lanes.names());
    for (const auto& [thread, thread_name] : threads) {
      add(metadata_json("thread_name", rank, thread, "name", thread_name));
      add(metadata_json("thread_sort_index", rank, thread, "sort_index", thread));
    }
  }

  void finish() {
    put("\n]}\n");
    file_.finish();
  }

 private:
  void put(const std::string& text) { file_.write(text.data(), text.size()); }
  void add(const Json& event) {
    put((first_ ? "\n" : ",\n") + event.dump());
    first_ = false;
  }

  OutputFile file_;
  bool first_ = true;
};

TraceEvent parse_event(const Json& json) {
  TraceEvent event;
  const std::string category = json.at("cat");
  event.name = json.at("name");
  if (category == "wait") {
    event.kind = TraceEvent::Kind::kWait;
    event.name = event.name.substr(std::string("wait ").size());
  } else if (category == "collective") {
    event.kind = TraceEvent::Kind::kCollective;
  }
  event.begin_us = json.at("ts");
  event.duration_us = json.at("dur");
  event.thread = json.at("tid");
  const Json& args = json.at("args");
  event.step = args.at("step");
  event.layer = args.value("layer", -1);
  event.bytes = args.value("bytes", std::int64_t{-1});
  event.communicator = args.value("communicator", "");
  return event;
}

RankTrace parse_trace(const std::string& path) {
  const Json json = Json::parse(read_text_file(path), nullptr, false);
  if (json.is_discarded() || !json.contains("otherData") ||
      json["otherData"].value("format", "") != kFormat) {
    throw_user_error(path, ": is not a trace that witan train --profile wrote");
  }
  try {
    const Json& header = json["otherData"];
    RankTrace trace;
    trace.rank = header.at("rank");
    trace.ranks = header.at("ranks");
    trace.expert_parallel = header.at("expert_parallel");
    trace.host = header.at("host");
    trace.first_step = header.at("first_step");
    trace.last_step = header.at("last_step");
    trace.clock_offset_us = header.at("clock_offset_us");
    trace.clock_uncertainty_us = header.at("clock_uncertainty_us");
    trace.lost_events = header.at("lost_events");
    for (const Json& event : json.at("traceEvents")) {
      if (event.at("ph") == "X") trace.events.push_back(parse_event(event));
    }
    return trace;
  } catch (const Json::exception& error) {
    throw_user_error(path, ": ", error.what());
  }
}

}  // namespace

std::string profile_folder(const std::string& run_folder) { return run_folder + "/profile"; }

std::string rank_trace_path(const std::string& run_folder, int rank) {
  char name[32];
  std::snprintf(name, sizeof name, "/rank-%05d.json", rank);
  return profile_folder(run_folder) + name;
}

void write_trace(const std::string& path, const RankTrace& trace) {
  EventWriter writer(path, header_json(trace));
  writer.write(trace);
  writer.finish();
}

void write_merged_trace(const std::string& path, const std::vector<RankTrace>& traces) {
  Json header = {{"format", "witan merged profile 1"}, {"ranks", Json::array()}};
  for (const RankTrace& trace : traces) header["ranks"].push_back(header_json(trace));
  EventWriter writer(path, header);
  for (const RankTrace& trace : traces) writer.write(trace);
  writer.finish();
}

std::vector<RankTrace> read_traces(const std::string& run_folder) {
  const std::string first = rank_trace_path(run_folder, 0);
  if (!fs::exists(first)) {
    throw_user_error(run_folder, ": has no profile (no ", first,
                     "); make one with witan train CONFIG --profile 10:20");
  }
  std::vector<RankTrace> traces = {parse_trace(first)};
  const int ranks = traces[0].ranks;
  for (int rank = 1; rank < ranks; ++rank) {
    const std::string path = rank_trace_path(run_folder, rank);
    if (!fs::exists(path)) {
      throw_user_error(path, ": is missing; the profile is of ", ranks,
                       " ranks, each of which writes a file: copy them into one folder");
    }
    traces.push_back(parse_trace(path));
  }
  return traces;
}

}  // namespace witan
