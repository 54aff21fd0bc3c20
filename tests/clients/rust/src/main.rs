// SPDX-License-Identifier: Apache-2.0
//! An ordinary Rust program that uses `ort` and knows nothing of Outboard.
//!
//!     client MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
//!
//! ORT_DYLIB_PATH names the library that the crate loads.
use std::borrow::Cow;
use std::path::Path;
use std::sync::Mutex;

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};

const THREADS: usize = 4;
const RUNS_PER_THREAD: usize = 4;

fn type_of(outlet: &Outlet) -> (TensorElementType, Vec<i64>) {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (*ty, shape.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn type_name(element: TensorElementType) -> &'static str {
    match element {
        TensorElementType::Float32 => "float",
        TensorElementType::Int64 => "int64",
        TensorElementType::String => "string",
        _ => "other",
    }
}

fn dims(shape: &[i64]) -> String {
    format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}

fn make_input(outlet: &Outlet) -> ort::Result<DynValue> {
    let (element, shape) = type_of(outlet);
    let shape: Vec<i64> = shape.iter().map(|&d| if d < 0 { 2 } else { d }).collect();
    let count = shape.iter().product::<i64>();
    Ok(match element {
        TensorElementType::String => {
            let values: Vec<String> = (0..count).map(|k| format!("s{k}é")).collect();
            Tensor::from_string_array((shape, values.as_slice()))?.into_dyn()
        }
        TensorElementType::Int64 => Tensor::from_array((shape, (0..count).collect::<Vec<i64>>()))?.into_dyn(),
        _ => Tensor::from_array((shape, (0..count).map(|k| k as f32 / 4.0 - 1.0).collect::<Vec<f32>>()))?.into_dyn(),
    })
}

fn text(name: &str, value: &DynValue) -> ort::Result<String> {
    let (element, shape) = match value.dtype() {
        ValueType::Tensor { ty, shape, .. } => (*ty, shape.to_vec()),
        other => panic!("{other:?}"),
    };
    let values: Vec<String> = match element {
        TensorElementType::Float32 => {
            value.try_extract_tensor::<f32>()?.1.iter().map(|v| format!("{:08x}", v.to_bits())).collect()
        }
        TensorElementType::Int64 => value.try_extract_tensor::<i64>()?.1.iter().map(i64::to_string).collect(),
        _ => value.try_extract_strings()?.1,
    };
    Ok(format!("  {name} {} {} {}\n", type_name(element), dims(&shape), values.join(" ")))
}

fn run(session: &mut Session, inputs: &[(String, DynValue)], output_names: &[String]) -> ort::Result<String> {
    let feeds: Vec<(Cow<str>, SessionInputValue)> =
        inputs.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect();
    let outputs = session.run(feeds)?;
    let mut all = String::new();
    for name in output_names {
        all += &text(name, &outputs[name.as_str()])?;
    }
    Ok(all)
}

fn open(environment: &Environment, path: &str, last: bool) -> ort::Result<()> {
    println!("{}", Path::new(path).file_name().unwrap().to_str().unwrap());
    let mut session = Session::builder(environment)?.commit_from_file(path)?;
    for (kind, outlets) in [("in", session.inputs()), ("out", session.outputs())] {
        for outlet in outlets {
            let (element, shape) = type_of(outlet);
            println!("  {kind} {} {} {}", outlet.name(), type_name(element), dims(&shape));
        }
    }
    let inputs =
        session.inputs().iter().map(|o| Ok((o.name().to_string(), make_input(o)?))).collect::<ort::Result<Vec<_>>>()?;
    let output_names: Vec<String> = session.outputs().iter().map(|o| o.name().to_string()).collect();
    let first = run(&mut session, &inputs, &output_names)?;
    print!("{first}");
    // A session of this crate is run by one thread at a time.
    let shared = Mutex::new(session);
    let equal = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..RUNS_PER_THREAD {
                    let again = run(&mut shared.lock().unwrap(), &inputs, &output_names).unwrap();
                    *equal.lock().unwrap() += (again == first) as usize;
                }
            });
        }
    });
    println!("  again {}", equal.into_inner().unwrap());
    if last {
        std::mem::forget(shared); // and one is never released
    }
    Ok(())
}

fn main() -> ort::Result<()> {
    let environment = ort::init().with_telemetry(false).build()?;
    let models: Vec<String> = std::env::args().skip(1).collect();
    for (i, model) in models.iter().enumerate() {
        open(&environment, model, i + 1 == models.len())?;
    }
    Ok(())
}
