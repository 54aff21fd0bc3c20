// SPDX-License-Identifier: Apache-2.0

// An ordinary Go program that uses onnxruntime_go and knows nothing of Outboard.
//
//	client MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
//
// ONNXRUNTIME_LIBRARY names the library that it loads.
package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

const threads, runsPerThread = 4, 4

var typeNames = map[ort.TensorElementDataType]string{
	ort.TensorElementDataTypeFloat: "float", ort.TensorElementDataTypeInt64: "int64",
	ort.TensorElementDataTypeString: "string",
}

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func dims(shape ort.Shape) string {
	return strings.ReplaceAll(fmt.Sprint([]int64(shape)), " ", ",")
}

func makeInput(info ort.InputOutputInfo) ort.Value {
	shape := info.Dimensions.Clone()
	for i, d := range shape {
		if d < 0 {
			shape[i] = 2
		}
	}
	count := shape.FlattenedSize()
	switch info.DataType {
	case ort.TensorElementDataTypeString:
		tensor, err := ort.NewStringTensor(shape)
		check(err)
		values := make([]string, count)
		for k := range values {
			values[k] = fmt.Sprintf("s%dé", k)
		}
		check(tensor.SetContents(values))
		return tensor
	case ort.TensorElementDataTypeInt64:
		values := make([]int64, count)
		for k := range values {
			values[k] = int64(k)
		}
		tensor, err := ort.NewTensor(shape, values)
		check(err)
		return tensor
	default:
		values := make([]float32, count)
		for k := range values {
			values[k] = float32(k)/4 - 1
		}
		tensor, err := ort.NewTensor(shape, values)
		check(err)
		return tensor
	}
}

func text(info ort.InputOutputInfo, value ort.Value) string {
	elements := []string{"  " + info.Name, typeNames[info.DataType], dims(value.GetShape())}
	switch tensor := value.(type) {
	case *ort.Tensor[float32]:
		for _, v := range tensor.GetData() {
			elements = append(elements, fmt.Sprintf("%08x", math.Float32bits(v)))
		}
	case *ort.Tensor[int64]:
		for _, v := range tensor.GetData() {
			elements = append(elements, fmt.Sprint(v))
		}
	case *ort.StringTensor:
		values, err := tensor.GetContents()
		check(err)
		elements = append(elements, values...)
	}
	return strings.Join(elements, " ") + "\n"
}

func names(infos []ort.InputOutputInfo) (all []string) {
	for _, info := range infos {
		all = append(all, info.Name)
	}
	return all
}

func open(path string, last bool) {
	fmt.Println(filepath.Base(path))
	inputInfos, outputInfos, err := ort.GetInputOutputInfo(path)
	check(err)
	session, err := ort.NewDynamicAdvancedSession(path, names(inputInfos), names(outputInfos), nil)
	check(err)
	var inputs []ort.Value
	for _, info := range inputInfos {
		fmt.Println("  in", info.Name, typeNames[info.DataType], dims(info.Dimensions))
		inputs = append(inputs, makeInput(info))
	}
	for _, info := range outputInfos {
		fmt.Println("  out", info.Name, typeNames[info.DataType], dims(info.Dimensions))
	}
	run := func() (all string) {
		outputs := make([]ort.Value, len(outputInfos))
		check(session.Run(inputs, outputs))
		for i, output := range outputs {
			all += text(outputInfos[i], output)
			output.Destroy()
		}
		return all
	}
	first := run()
	fmt.Print(first)
	var group sync.WaitGroup
	var mutex sync.Mutex
	equal := 0
	for t := 0; t < threads; t++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < runsPerThread; i++ {
				again := run()
				mutex.Lock()
				if again == first {
					equal++
				}
				mutex.Unlock()
			}
		}()
	}
	group.Wait()
	fmt.Println("  again", equal)
	if !last { // and one is never destroyed
		check(session.Destroy())
	}
}

func main() {
	ort.SetSharedLibraryPath(os.Getenv("ONNXRUNTIME_LIBRARY"))
	check(ort.InitializeEnvironment())
	defer ort.DestroyEnvironment()
	models := os.Args[1:]
	for i, model := range models {
		open(model, i == len(models)-1)
	}
}
